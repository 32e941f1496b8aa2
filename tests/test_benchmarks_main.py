"""The command line: tasks, names, errors, and what is kept."""

import types

import pytest

from benchmarks import __main__ as command_line
from benchmarks import prepare, results
from benchmarks.process import ArmError
from benchmarks.tasks import TASKS, accuracy, startup
from benchmarks.turns import take_turns
from benchmarks.workloads import WORKLOADS

FACTS = {"task": "accuracy", "case": "mlp", "platform": "cpu", "device": "cpu", "data": "MNIST"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["race", "--arms", "torch-eagr"], "argument --arms: unknown arm 'torch-eagr'; did you mean torch-eager?"),
        (["race", "--workloads", "cnnn"], "argument --workloads: unknown workload 'cnnn'; did you mean cnn?"),
        (["race", "--phases", "steps"], "argument --phases: unknown phase 'steps'; did you mean step?"),
        (["accuracy", "--recipe", "mpl"], "argument --recipe: unknown recipe 'mpl'; did you mean mlp?"),
        (["rase"], "unknown task 'rase'; did you mean race?"),
        (["race", "--rouns", "3"], "unrecognized arguments: --rouns 3"),
    ],
)
def test_a_wrong_name_is_one_line_with_its_nearest_neighbour(words, line, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"benchmarks: error: {line}\n"


def test_results_name_no_folder_of_this_machine():
    expected = "python -m benchmarks race --data-dir FOLDER --quick"
    assert command_line.command(["race", "--data-dir", "/data/mnist", "--quick"]) == expected
    assert command_line.command(["race", "--out=/x"]) == "python -m benchmarks race --out=FOLDER"


def cut_off(_):
    yield FACTS | {"accuracy": {"jaxdl": [0.98]}, "seconds": [12.0]}
    raise ArmError("no more")


@pytest.mark.parametrize(("options", "kept"), [([], True), (["--quick"], False)])
def test_what_was_measured_is_saved_before_a_later_seed_fails(options, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "project")
    stand_in = types.SimpleNamespace(**(vars(accuracy) | {"run": cut_off}))
    monkeypatch.setitem(TASKS, "accuracy", stand_in)
    assert command_line.main(["accuracy", "--recipe", "mlp", *options]) == 1
    assert capsys.readouterr().err == "benchmarks: error: no more\n"
    assert (tmp_path / "project" / "accuracy-mlp-cpu.json").exists() == kept
    command_line.main(["accuracy", "--quick", "--out", str(tmp_path / "own")])
    (found,) = results.load(tmp_path / "own")
    assert found["accuracy"] == {"jaxdl": [0.98]}
    assert {"cpu", "threads", "load", "flags", "versions", "command"} <= found.keys()


def test_a_comparison_needs_two_seeds(capsys):
    assert command_line.main(["accuracy", "--seeds", "1", "--data-dir", "nowhere"]) == 1
    assert capsys.readouterr().err == "benchmarks: error: --seeds: expected 2 or more, got 1\n"


def test_accuracy_without_mnist_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither the original files of mnist"):
        prepare.load(WORKLOADS["net"], tmp_path, need_mnist=True)


def test_start_up_ends_at_the_first_step_and_ends_the_process():
    script = (
        "import time; print('hello'); print('Epoch [1/10], Step [1/938], Loss: 2.3', flush=True); time.sleep(99)"
    )
    assert 0 < startup.first_step(["-c", script]) < 60
    with pytest.raises(ArmError, match="without a step"):
        startup.first_step(["-c", "print('Epoch [1/10], Step [2/938], Loss: 2.3')"])


def test_a_cold_start_finds_no_compiled_programs(tmp_path, monkeypatch):
    seen = []

    def first_step(_, env):
        folder = tmp_path / "XDG_CACHE_HOME"
        assert env == {"XDG_CACHE_HOME": str(folder)}
        seen.append((folder / "program").exists())
        (folder / "program").touch()
        return 1.0

    monkeypatch.setattr(startup, "first_step", first_step)
    contender = startup.starts(tmp_path, None)
    for name in ("jaxdl, warm cache", "jaxdl, warm cache", "jaxdl, cold cache", "jaxdl, warm cache"):
        assert startup.started(contender[name], tmp_path) == {"seconds": 1.0}
    assert seen == [False, True, False, True]


def test_start_up_is_held_against_torch_and_torch_compile():
    times = {"jaxdl, warm cache": [3.0] * 3, "torch": [2.0] * 3, "torch.compile, warm cache": [6.0] * 3}
    result = {"seconds": times | {"jaxdl, cold cache": []}, "skipped": {"jaxdl, cold cache": "no disk"}}
    found = {claim.what.split(": ")[1]: claim for claim in startup.claims(result)}
    assert found["jaxdl, warm cache / torch"].outcome == "<= 1.5: reached"
    assert found["jaxdl, warm cache / torch.compile, warm cache"].outcome == "<= 0.7: reached"
    assert len(found) == 2
    assert "| jaxdl, cold cache |  |  |  | skipped: no disk |" in startup.tables(result)


def test_contenders_take_turns_and_one_that_fails_is_out():
    log, times = [], iter([1.0, 1.0, 1.0])

    def steady():
        log.append("steady")
        return {"seconds": next(times)}

    def failing():
        log.append("failing")
        raise ArmError("broken")

    *_, last = take_turns({"failing": failing, "steady": steady}, 3)
    assert log == ["failing", "steady", "steady", "steady"]
    assert last["failing"].failed == "broken"
    assert last["steady"].samples == {"seconds": [1.0] * 3}
