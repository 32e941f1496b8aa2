"""The catalogue: every entry holds on the installed versions, and one that no longer does is told so."""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity import __main__ as cli
from parity import diagnose
from parity.catalogue import ENTRIES, CatalogueError, Skip, Status, find, report
from parity.catalogue.entry import Measured, entry
from parity.catalogue.facts import Fact, agrees, differs, gap, lacks, raises, states
from parity.diagnose.explanation import ROWS, Explanation

GPU_ONLY = {47, 50}  # what they say of a CPU is measured
checked = functools.cache(lambda row: ENTRIES[row].check())


@pytest.mark.parametrize("row", ENTRIES)
def test_an_entry_holds(row):
    measured = checked(row)
    wrong = [fact for fact in measured.facts if not fact.holds]
    assert not wrong
    assert not measured.error
    assert measured.facts
    if row in GPU_ONLY and jax.default_backend() == "cpu":
        assert "needs a GPU" in measured.skipped
    else:
        assert not measured.skipped


def test_the_rows_are_1_to_67_and_every_field_says_something():
    assert list(ENTRIES) == list(range(1, 68))
    for each in ENTRIES.values():
        assert all((each.title, each.torch, each.jax, each.instead))
        assert len(each.title) <= 52


@pytest.mark.parametrize("row", [12, 28, 31, 32, 37, 38, 40, 41])
def test_what_has_no_option_is_cured_here(row):
    measured = checked(row)
    assert ENTRIES[row].status is Status.CURED
    assert (measured.without or 0) > 1e-3 > 1e-9 > (measured.cured or 0)


def made(*facts, error=None):
    """An entry of these facts, which may end in an error."""

    @entry(1, "A title", Status.OPTIONS, torch="t", jax="j", instead="code(x)")
    def measure():
        yield from facts
        if error:
            raise error

    return measure


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (differs("x", 1.0, 1.5, 1.0, least=0.1), "holds"),
        (differs("the frameworks agree by now", 1.0, 1.0, 1.0, least=0.1), "changed"),
        (differs("the workaround no longer cures", 1.0, 2.0, 1.1, least=0.1), "changed"),
        (agrees("x", 1.0, 1.0), "holds"),
        (agrees("they agreed once", 1.0, 1.1), "changed"),
        (states("x", True), "holds"),
        (states("x", np.bool_(False)), "changed"),
        (lacks(optax.sgd, "damp"), "holds"),
        (lacks(optax.sgd, "damp", "momentum"), "changed"),
    ],
)
def test_a_fact_that_is_no_longer_so_has_changed(fact, expected):
    assert made(fact).check().verdict == expected
    assert made(states("x", True), fact).check().verdict == expected


def test_an_option_that_is_gone_has_changed():
    gone = made(states("x", True), error=TypeError("unexpected keyword argument 'nesterov'"))
    measured = gone.check()
    assert (measured.verdict, measured.error) == ("changed", "TypeError: unexpected keyword argument 'nesterov'")
    assert "changed: TypeError: unexpected" in report.line(gone, measured)


def test_an_entry_without_facts_proves_nothing():
    assert made().check().verdict == "changed"


def test_what_cannot_be_measured_here_is_skipped_with_the_reason_unless_the_rest_has_changed():
    assert made(states("x", True), error=Skip("needs a GPU")).check() == Measured(
        (states("x", True),), skipped="needs a GPU"
    )
    assert made(states("x", False), error=Skip("needs a GPU")).check().verdict == "changed"


def test_the_gap_is_the_largest_difference():
    nan, inf = math.nan, math.inf
    assert gap(torch.tensor([1.0, 2.0]), jnp.asarray([1.5, 0.0])) == 2
    assert gap([nan, inf], [nan, inf]) == 0
    assert gap([nan], [0]) == gap([1], [inf]) == gap([inf], [-inf]) == gap([1, 2], [[1], [2]]) == inf
    assert gap([], []) == 0
    assert gap(True, False) == 1
    assert differs("x", 1.0, nan, least=1) == Fact("x", True, inf, None, ("1", "nan"), "at least 1")


def test_raises_lets_other_errors_pass():
    assert raises(lambda: 1 / 0, ZeroDivisionError)
    assert not raises(lambda: None, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        raises(lambda: 1 / 0, ValueError)


def test_a_check_leaves_randomness_and_precision_alone():
    @entry(1, "Random", Status.SAME, torch="t", jax="j", instead="i")
    def random():
        assert jnp.asarray(1.0).dtype == jnp.float64
        yield agrees("a number", torch.rand(()), 0.5, most=1)

    before = torch.get_rng_state()
    first, second = random.check(), random.check()
    assert first == second
    assert first.verdict == "holds"
    assert torch.equal(torch.get_rng_state(), before)
    assert jnp.asarray(1.0).dtype == jnp.float32


def test_entries_are_found_by_rows_and_words():
    assert [each.row for each in find(["12", "28"])] == [12, 28]
    assert [each.row for each in find(["DROPOUT"])] == [26, 59]
    assert [each.row for each in find(["batchnorm", "momentum"])] == [11]
    assert [each.row for each in find(["1", "batchnorm", "momentum"])] == [1, 11]
    assert len(find([])) == 67
    with pytest.raises(CatalogueError, match=r"^the catalogue has rows 1 to 67, not 0, 68$"):
        find(["68", "12", "0"])
    with pytest.raises(CatalogueError, match=r"^no entry of the catalogue has the words zorn lemma$"):
        find(["Zorn", "lemma"])


@pytest.fixture
def false_entry(monkeypatch):
    """Row 3 says that the slopes of PReLU agree."""
    false = made(agrees("slope", 0.25, 0.01))
    rows = {**ENTRIES, 3: dataclasses.replace(ENTRIES[3], measure=false.measure)}
    monkeypatch.setattr("parity.catalogue.ENTRIES", rows)


def test_the_command_prints_a_table(capsys):
    assert cli.main(["catalogue", "prelu"]) == 0

    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["row", "without", "with"]
    assert out[1].split() == ["3", "PReLU:", "initial", "slope", "match", "with", "options", "2.4e-01", "0"]
    assert out[-1] == "2 as stated"


def test_the_command_prints_an_entry_in_full(capsys):
    assert cli.main(["catalogue", "12", "34"]) == 0

    out = capsys.readouterr().out
    assert "12. BatchNorm: running variance  (cured here)" in out
    assert "jaxdl.nn.norm.BatchNorm(features)" in out
    assert "jnp.std(x, ddof=1)" in out
    assert ENTRIES[12].torch[:60] in out


def test_the_command_prints_markdown(capsys):
    assert cli.main(["catalogue", "--markdown", "3", "47"]) == 0

    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "| row | | status | without | with |",
        "| ---: | --- | --- | ---: | ---: |",
        "| 3 | PReLU: initial slope | match with options | 2.4e-01 | 0 |",
    ]
    assert out[3].startswith("| 47 | float32 on a GPU | not checked here: needs a GPU")


@pytest.mark.usefixtures("false_entry")
def test_the_command_tells_a_changed_entry_and_exits_with_1(capsys):
    assert cli.main(["catalogue", "prelu"]) == 1

    out = capsys.readouterr().out
    assert "changed: slope: expected at most 1e-12, got 2.4e-01" in out
    assert out.splitlines()[-1] == "1 as stated, 1 changed"
    assert cli.main(["catalogue", "3"]) == 1
    assert "✗ changed: slope" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["99"], "parity: the catalogue has rows 1 to 67, not 99\n"),
        (["nothing-like-it"], "parity: no entry of the catalogue has the words nothing-like-it\n"),
    ],
)
def test_the_command_exits_with_3_on_rows_and_words_that_are_not_there(words, message, capsys):
    assert cli.main(["catalogue", *words]) == 3
    assert capsys.readouterr() == ("", message)


def test_an_explanation_points_to_its_row():
    assert Explanation("norm eps", "set epsilon=1e-05").advice == "set epsilon=1e-05 (catalogue row 13)"
    assert Explanation("stopped gradient", "let it through").advice == "let it through"
    assert set(ROWS.values()) <= set(ENTRIES)
    source = "".join(path.read_text() for path in Path(diagnose.__file__).parent.glob("*.py"))
    assert [name for name in ROWS if source.count(f'"{name}"') < 2] == []
