"""parity.report: every form of one report, the place in the code, and that a script shows the failure again."""

import json
import math
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parity.pair import load
from parity.report.findings import Finding, Layer, Report, tree
from parity.report.html import html
from parity.report.json import json_of
from parity.report.sarif import sarif
from parity.report.script import script
from parity.report.sources import Place, place_of
from parity.report.text import number, summary, text, verdict_line
from parity.verdict import Judgement, Leaf, Phase, Verdict

FACTS = {"seed": 3, "steps": 2, "versions": {"torch": "2.13"}, "rates": [[0.1], [0.05]]}


def good(name: str, error: float = 1e-15) -> Leaf:
    return Leaf(name, Verdict.PASS, error, 1e-10, 1e-14)


def bad(name: str, error: float = 0.03, reason: str = "") -> Leaf:
    return Leaf(name, Verdict.FAIL, error, 1e-10, 1e-14, reason)


def layer(place: str, *, error: float = 0.0, fault: str = "") -> Layer:
    verdict = Verdict.FAIL if error else Verdict.PASS
    return Layer(place, place, ("Linear", "Linear"), 0.0, error, error, verdict, fault)


@pytest.fixture
def passing() -> Report:
    phases = (
        Phase("weights", skipped="the bridge carried them"),
        Phase("eval_forward", (good("output", 0.0),)),
        Phase("updates", (good("1/w", 2e-15), good("2/w"), good("loss"))),
    )
    return Report("prove", "net", Judgement("net", phases, facts=FACTS), "prove(pair, seed=3, steps=2)")


@pytest.fixture
def failing() -> Report:
    phases = (
        Phase("eval_forward", (bad("output", reason="2 times torch's"),)),
        Phase("buffers", (bad("bn.running_var", math.inf), good("bn.running_mean"))),
        Phase("updates", (bad("1/fc.weight"), bad("2/fc.weight"), Leaf("1/fc.bias", Verdict.ABSTAIN, 3.0, 1e-9))),
    )
    judgement = Judgement(
        "port", phases, ("<b>weak</b> stimulus",), ("fc.weight -> fc.kernel (3, 2) (name)",), FACTS
    )
    place = Place(Path.cwd() / "model.py", 12)
    known = ("gelu form", "write approximate=False", 1e-16, (("other activation", "try relu"),), 7)
    findings = (
        Finding("layer", "fc", "dense", 0.03, "it gives another output", False, *known, place),
        Finding("buffers", "bn.running_var", "bn.var", math.inf, "the statistic moves differently", True, tried=5),
    )
    layers = (
        layer("fc", error=0.03, fault="layer"),
        layer("blocks.0.fc"),
        layer("blocks.0"),
        layer("", error=0.03),
    )
    call = "prove(pair, seed=3, steps=2)"
    return Report(
        "prove", "m:port", judgement, call, findings, layers, ("act",), Place(Path.cwd() / "pairs.py", 4)
    )


def test_a_number_is_short_and_says_what_is_not_known():
    assert [number(value) for value in (math.nan, 0.0, math.inf, 0.0314)] == ["-", "0", "inf", "3.1e-02"]


def test_the_sentence_counts_what_agrees_and_names_what_fails_first(passing, failing):
    assert verdict_line(passing) == "4 tensors in 2 phases agree, no error above 2.0e-15"
    assert verdict_line(failing) == "the port differs in eval_forward and 2 phases behind it"


def test_what_proves_nothing_is_not_counted_as_agreeing():
    leaves = (good("a"), Leaf("b", Verdict.ABSTAIN, 4.0, 1e-10))
    report = Report("prove", "x", Judgement("x", (Phase("parameter_gradients", leaves),)))

    assert verdict_line(report) == "1 tensor in 1 phase agree, no error above 1.0e-15; 1 prove nothing"


def test_the_text_shows_every_phase_fault_and_fix(failing):
    shown = text(failing)

    assert "\x1b[" not in shown
    places = ("eval_forward", "2 times torch's", "◀ layer", "counterpart", "model.py:12", "FAIL")
    reasons = ("write approximate=False", "none of 5 known explanations", "or   other activation")
    for words in (*places, *reasons, "<b>weak</b> stimulus"):
        assert words in shown, words
    assert re.sub(r"\x1b\[[0-9;]*m", "", text(failing, color=True)) == shown


def test_the_tree_nests_layers_by_their_paths(failing):
    found = tree(failing.layers)

    assert {place: [inner.place for inner in inside] for place, inside in found.items()} == {
        None: [""],
        "": ["fc", "blocks.0"],
        "blocks.0": ["blocks.0.fc"],
    }
    assert text(failing).index("└─ blocks.0") < text(failing).index("   └─ fc")


def test_the_summary_of_an_assertion_is_plain_and_leads_with_the_verdict(failing):
    shown = summary(failing)

    assert shown.startswith("m:port: FAIL, the port differs in eval_forward")
    assert "write approximate=False" in shown
    assert "\x1b" not in shown


def test_json_is_strict_and_complete(failing):
    def never(name: str):
        raise AssertionError(name)

    values = json.loads(json_of(failing), parse_constant=never)

    assert values["verdict"] == "FAIL"
    assert values["failed"] == ["eval_forward", "buffers", "updates"]
    assert values["phases"][1]["tensors"][0]["error"] is None  # infinite
    tensor = {"name": "output", "verdict": "FAIL", "error": 0.03, "limit": 1e-10, "floor": 1e-14}
    assert values["phases"][0]["tensors"] == [tensor | {"reason": "2 times torch's"}]
    assert values["faults"][0]["fix"] == "write approximate=False"
    assert values["faults"][0]["source"] == {"file": str(Path.cwd() / "model.py"), "line": 12}
    assert [row["fault"] for row in values["layers"]] == ["layer", "", "", ""]
    assert values["facts"]["rates"] == [[0.1], [0.05]]


class _Balanced(HTMLParser):
    """Fails on a tag that is not closed, collects what a page refers to."""

    VOID = ("meta", "input", "br", "line", "circle", "rect", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        assert attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@pytest.mark.parametrize("name", ["passing", "failing"])
def test_the_page_is_whole_and_needs_nothing_else(name, request):
    report = request.getfixturevalue(name)
    page = html(report)
    parser = _Balanced()
    parser.feed(page)

    assert parser.open == []
    assert parser.links == []
    assert "http" not in page
    assert "url(" not in page
    assert parser.counts["circle"] == sum(len(p.leaves) for p in report.judgement.phases) + 2  # and one an update
    assert f'<div class="badge">{report.judgement.verdict.value}</div>' in page


def test_the_page_escapes_what_others_wrote(failing):
    page = html(failing)

    assert "&lt;b&gt;weak&lt;/b&gt; stimulus" in page
    assert "<b>weak</b>" not in page


def test_the_page_of_what_could_not_be_compared_says_why():
    report = Report("prove", "x", Judgement("x", (Phase("pair", error="fc.weight has\nno counterpart"),)))

    assert "fc.weight has<br>no counterpart" in html(report)
    assert "<svg" not in html(report)


def test_sarif_has_one_result_a_fault_at_a_line(failing):
    log = json.loads(sarif(failing))
    (run,) = log["runs"]
    first, second = run["results"]

    assert log["version"] == "2.1.0"
    assert first["ruleId"] == "parity/gelu-form"
    assert "Fix: write approximate=False." in first["message"]["text"]
    where = first["locations"][0]["physicalLocation"]
    assert where == {"artifactLocation": {"uri": "model.py"}, "region": {"startLine": 12}}
    other = second["locations"][0]["physicalLocation"]
    assert other["artifactLocation"]["uri"] == "pairs.py"  # its own is not known
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in (first, second)] == [first["ruleId"], second["ruleId"]]
    assert first["partialFingerprints"] != second["partialFingerprints"]


def test_sarif_without_faults_has_the_failing_phases_and_none_when_all_is_well(passing):
    leaves = (bad("output"),)
    report = Report(
        "measure", "x", Judgement("x", (Phase("eval_forward", leaves), Phase("loss", (good("loss"),))))
    )

    (result,) = json.loads(sarif(report))["runs"][0]["results"]
    assert result["ruleId"] == "parity/eval_forward"
    assert json.loads(sarif(passing))["runs"][0]["results"] == []


MODEL = """
import jax
import torch
from flax import nnx

from parity import Pair


class Port(nnx.Module):
    def __init__(self, *, rngs):
        self.fc1 = nnx.Linear(3, 4, rngs=rngs)
        self.fc2 = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.fc2(jax.nn.gelu(self.fc1(x)))


def port_loss(made, targets):
    return (made - targets).sum()


def pair():
    original = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
    return Pair(
        torch=original,
        flax=lambda: Port(rngs=nnx.Rngs(0)),
        inputs=lambda rng: rng.normal(0.5, 1, (4, 3)),
        targets=lambda rng: rng.normal(0.5, 1, (4, 2)),
        loss=(lambda made, targets: (made - targets).sum(), port_loss),
        tx=None,
    )
"""


@pytest.fixture
def target(tmp_path) -> str:
    (tmp_path / "report_model.py").write_text(MODEL)
    return f"{tmp_path / 'report_model.py'}:pair"


@pytest.mark.parametrize(
    ("kind", "port", "line"),
    [
        ("layer", "fc1", "self.fc1 = nnx.Linear(3, 4, rngs=rngs)"),
        ("weights", "fc2.kernel", "def pair():"),
        ("glue", "fc2", "return self.fc2(jax.nn.gelu(self.fc1(x)))"),
        ("glue", "", "def __call__(self, x):"),
        ("loss", "", "def port_loss(made, targets):"),
        ("optimizer", "", "tx=None,"),
    ],
)
def test_a_fault_is_shown_at_the_users_own_line(target, kind, port, line):
    place = place_of(target, load(target), kind, port)

    assert place is not None
    assert place.file.read_text().splitlines()[place.line - 1].strip() == line


def test_the_place_of_a_shipped_pair_is_its_function():
    place = place_of("net")

    assert place is not None
    assert place.file.name == "net.py"
    assert place.file.read_text().splitlines()[place.line - 1] == "def sgd() -> Pair:"


def test_a_script_exits_with_1_while_the_fault_is_there_and_with_0_when_it_is_gone(target, tmp_path):
    judgement = Judgement("pair", (Phase("eval_forward", (bad("output"),)),))
    source = script(Report("prove", target, judgement, "prove(pair, seed=0, steps=1)"))
    assert source is not None
    file = tmp_path / "again.py"
    file.write_text(source)

    with pytest.raises(SystemExit, match="still there, eval_forward fails"):
        runpy.run_path(str(file))

    model = Path(target.partition(":")[0])
    model.write_text(MODEL.replace("gelu(self.fc1(x))", "gelu(self.fc1(x), approximate=False)"))
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(file))
    assert left.value.code == 0


def test_there_is_no_script_where_nothing_failed_or_nothing_can_be_run_again(passing, failing):
    assert script(passing) is None
    assert script(Report("compare", "a b", failing.judgement)) is None
