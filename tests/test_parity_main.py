"""python -m parity: exit statuses, one line for every error, the forms on disk, and that --help is light."""

import json
import subprocess
import sys

import pytest

from parity import __main__ as cli
from parity.report import findings
from parity.report.findings import Report
from parity.verdict import Judgement, Leaf, Phase, Verdict

MODEL = """
import jax
import torch
from flax import nnx

from parity import Pair


class Port(nnx.Module):
    def __init__(self, *, approximate, rngs):
        self.fc1 = nnx.Linear(3, 4, rngs=rngs)
        self.fc2 = nnx.Linear(4, 2, rngs=rngs)
        self.approximate = approximate

    def __call__(self, x):
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=self.approximate))


def pair(approximate=False):
    return Pair(
        torch=lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2)),
        flax=lambda: Port(approximate=approximate, rngs=nnx.Rngs(0)),
        inputs=lambda rng: rng.normal(0.5, 1, (4, 3)),
    )


def wrong():
    return pair(approximate=True)


def seeded():
    return Pair(
        torch=pair().torch,
        flax=lambda seed=0: Port(approximate=False, rngs=nnx.Rngs(seed)),
        inputs=pair().inputs,
    )


def unlike():
    return Pair(torch=pair().torch, flax=lambda: nnx.Linear(3, 2, rngs=nnx.Rngs(0)), inputs=pair().inputs)


def crash():
    return Pair(torch=pair().torch, flax=pair().flax, inputs=lambda rng: rng.normal(0.5, 1, (4, 5)))


def nothing():
    return 3


def raises():
    raise OSError("no disk")
"""


@pytest.fixture
def file(tmp_path) -> str:
    (tmp_path / "main_model.py").write_text(MODEL)
    return str(tmp_path / "main_model.py")


def test_a_correct_pair_exits_with_0(file, capsys):
    assert cli.main(["prove", f"{file}:pair"]) == 0

    shown = capsys.readouterr()
    assert "PASS" in shown.out
    assert "skipped: the pair has no torch_optimizer" in shown.out
    assert shown.err == ""


def test_a_wrong_pair_exits_with_1_says_where_and_why_and_writes_every_form(file, tmp_path, capsys):
    forms = {form: tmp_path / "out" / f"report.{form}" for form in ("json", "html", "sarif", "script")}
    options = [word for form, path in forms.items() for word in (f"--{form}", str(path))]

    assert cli.main(["prove", f"{file}:wrong", "--steps", "1", *options]) == 1

    shown = capsys.readouterr().out
    assert "gelu form" in shown
    assert "approximate=False" in shown
    assert "main_model.py:16" in shown
    assert json.loads(forms["json"].read_text())["faults"][0]["explanation"] == "gelu form"
    assert json.loads(forms["sarif"].read_text())["runs"][0]["results"][0]["ruleId"] == "parity/gelu-form"
    assert "gelu form" in forms["html"].read_text()
    compile(forms["script"].read_text(), "report.script", "exec")


def test_locate_shows_the_tree_even_where_nothing_fails(file, capsys):
    assert cli.main(["locate", f"{file}:pair", "--seed", "1"]) == 0

    shown = capsys.readouterr().out
    assert "Linear → Linear" in shown
    assert "fault" not in shown


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        (Phase("loss", (Leaf("loss", Verdict.PASS, 0.0, 0.1),)), 0),
        (Phase("loss", (Leaf("loss", Verdict.FAIL, 1.0, 0.1),)), 1),
        (Phase("loss", (Leaf("loss", Verdict.ABSTAIN, 1.0, 0.1),)), 2),
        (Phase("pair", error="no such weight"), 3),
    ],
    ids=lambda value: getattr(getattr(value, "verdict", None), "value", ""),
)
def test_the_exit_status_is_the_verdict(phase, status, monkeypatch, capsys):
    monkeypatch.setattr(findings, "examine", lambda *_, **__: Report("prove", "net", Judgement("net", (phase,))))

    assert cli.main(["prove", "net"]) == status
    assert capsys.readouterr().err == ("parity: no such weight\n" if status == 3 else "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prov", "net"], "no command 'prov', did you mean prove?"),
        (["xyzzy"], "no command 'xyzzy': expected list, prove, measure"),
        (["prove", "nett"], "no pair 'nett' (did you mean 'net'?)"),
        (["prove", "net", "--sead", "1"], "unrecognized arguments: --sead 1, did you mean --seed?"),
        (["prove"], "the following arguments are required: TARGET"),
        (["prove", "net", "--steps", "-1"], "expected a whole number from 0"),
        (["measure", "net", "--dtype", "float8"], "invalid choice: 'float8'"),
        (["prove", "missing.py:pair"], "no file missing.py"),
        (["prove", "no_such_module:pair"], "no_such_module does not import: ModuleNotFoundError"),
        (["prove", "FILE:pear"], "(did you mean 'pair'?)"),
        (["prove", "FILE:nothing"], "expected a parity.Pair, got int"),
        (["prove", "FILE:raises"], "failed: OSError: no disk"),
        (["prove", "FILE:crash"], "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        (["dump", "flax", "net", "folder"], "dump flax wants --from TORCH_FOLDER"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_status_3(words, said, file, capsys):
    assert cli.main([word.replace("FILE", file) for word in words]) == 3

    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("parity: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_models_that_cannot_be_matched_are_an_error_with_the_reason(file, capsys):
    assert cli.main(["prove", f"{file}:unlike"]) == 3

    shown = capsys.readouterr()
    assert "ERROR" in shown.out
    assert shown.err.startswith("parity: ")
    assert shown.err.count("\n") == 1


def test_a_wrong_initialisation_is_shown_with_its_fix(file, tmp_path, capsys):
    assert cli.main(["init", f"{file}:seeded", "--seeds", "40", "--json", str(tmp_path / "init.json")]) == 1

    shown = capsys.readouterr().out
    faults = json.loads((tmp_path / "init.json").read_text())["faults"]
    assert {fault["kind"] for fault in faults} == {"initial"}
    assert all(fault["fix"] in shown for fault in faults)
    assert any(fault["fix"] for fault in faults)


def test_two_dumps_are_compared_like_two_models(file, tmp_path, capsys):
    torch_side, port = str(tmp_path / "torch"), str(tmp_path / "port")

    assert cli.main(["dump", "torch", f"{file}:wrong", torch_side]) == 0
    assert cli.main(["dump", "flax", f"{file}:wrong", port, "--from", torch_side]) == 0
    assert cli.main(["compare", torch_side, port, "--script", str(tmp_path / "none.py")]) == 1
    assert "not written" in capsys.readouterr().out
    assert cli.main(["compare", torch_side, torch_side]) == 3


def test_measure_holds_the_port_against_torchs_own_error(file, capsys):
    assert cli.main(["measure", f"{file}:pair"]) == 0
    assert "float32 · cpu" in capsys.readouterr().out
    assert cli.main(["measure", f"{file}:wrong"]) == 1
    assert cli.main(["measure", f"{file}:pair", "--seeds", "2"]) == 0
    assert "largest" in capsys.readouterr().out


def test_mutate_plants_only_what_is_asked_for(file, capsys):
    assert cli.main(["mutate", f"{file}:pair", "--faults", "gelu form"]) == 0

    shown = capsys.readouterr()
    assert shown.err.startswith("caught ")
    assert shown.err.endswith(": gelu form\n")
    assert "in eval_forward |" in shown.out


def test_a_lost_diagnosis_does_not_lose_the_verdict(file, monkeypatch, capsys):
    def broken(*_, **__):
        raise KeyError("layer")

    monkeypatch.setattr("parity.locate.locate", broken)

    assert cli.main(["prove", f"{file}:wrong", "--steps", "1"]) == 1
    assert "where and why could not be found out: KeyError: 'layer'" in capsys.readouterr().out


def test_the_list_names_every_shipped_pair(capsys):
    from parity.twins import PAIRS

    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PAIRS)


def test_colours_are_for_terminals_or_for_who_asks(monkeypatch, capsys):
    judgement = Judgement("net", (Phase("loss", (Leaf("loss", Verdict.PASS, 0.0, 0.1),)),))
    monkeypatch.setattr(findings, "examine", lambda *_, **__: Report("prove", "net", judgement))

    cli.main(["prove", "net"])
    assert "\x1b[" not in capsys.readouterr().out
    cli.main(["prove", "net", "--color"])
    assert "\x1b[32m" in capsys.readouterr().out


def test_help_loads_neither_torch_nor_jax():
    code = (
        "import sys; from parity.__main__ import main\n"
        "try:\n    main(['prove', '--help'])\n"
        "finally:\n    assert not {'torch', 'jax', 'flax'} & sys.modules.keys()"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "--sarif FILE" in made.stdout
