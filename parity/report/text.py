"""A report for the terminal: phases, warnings, the tree of layers, and every fault with its fix."""

import math
import textwrap
from collections.abc import Iterator, Mapping

from parity.report.findings import Finding, Layer, Report, tree
from parity.verdict import Judgement, Leaf, Phase, Verdict

MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.ERROR: "✗", Verdict.ABSTAIN: "?", Verdict.SKIP: "-"}
COLORS = {Verdict.PASS: "32", Verdict.FAIL: "31", Verdict.ERROR: "35", Verdict.ABSTAIN: "33", Verdict.SKIP: "90"}
DIM, BOLD = "90", "1"
SHOWN = 5


def text(report: Report, *, color: bool = False) -> str:
    """The whole report.

    Args:
      report: what to show.
      color: with ANSI escapes.
    """
    judgement = report.judgement
    write = _Writer(color)
    lines = ["", *_head(report, write), "", *_phases(judgement, write)]
    if judgement.warnings:
        lines += ["", *(f"  {write('!', '33')} {line}" for line in _wrapped(judgement.warnings, "    "))]
    if report.layers:
        lines += ["", *_layers(report, write)]
    if report.findings:
        lines += ["", *_findings(report.findings, write)]
    return "\n".join([*lines, "", _last(report, write)])


def number(value: float) -> str:
    """An error in three digits; 0, inf and a dash for what is not known."""
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else "inf" if math.isinf(value) else f"{value:.1e}"


def facts(judgement: Judgement) -> str:
    """What it was run with, in a line."""
    known = dict(judgement.facts)
    parts = [str(known[name]) for name in ("dtype", "device") if name in known]
    parts += [f"{name} {known[name]:g}" for name in ("k",) if name in known]
    parts += [f"{name} {known[name]}" for name in ("seed", "seeds", "level") if name in known]
    parts += [f"{known['steps']} updates"] if "steps" in known else []
    versions = known.get("versions")
    return " · ".join(parts + ([f"{k} {v}" for k, v in versions.items()] if isinstance(versions, Mapping) else []))


def verdict_line(report: Report) -> str:
    """The result in a sentence."""
    judgement = report.judgement
    done = [phase for phase in judgement.phases if phase.verdict is Verdict.PASS]
    if judgement.verdict is Verdict.PASS:
        found = [leaf for phase in done for leaf in phase.leaves]
        agree = [leaf.error for leaf in found if leaf.verdict is Verdict.PASS]
        open_ = f"; {len(found) - len(agree)} prove nothing" if len(found) > len(agree) else ""
        worst = f"no error above {number(max(agree))}"
        return f"{_count(len(agree), 'tensor')} in {_count(len(done), 'phase')} agree, {worst}{open_}"
    if judgement.verdict is Verdict.ERROR:
        first, *more = next(
            (phase.error for phase in judgement.phases if phase.error), "nothing was compared"
        ).splitlines()
        return f"{first} (and {len(more)} more)" if more else first
    if judgement.verdict is Verdict.FAIL:
        first, *more = report.failed
        behind = f" and {_count(len(more), 'phase')} behind it" if more else ""
        return f"the port differs in {first}{behind}"
    names = [phase.name for phase in judgement.phases if phase.verdict is Verdict.ABSTAIN]
    return f"nothing can be proven in {', '.join(names)}"


def summary(report: Report) -> str:
    """Without colours and layers, for an assertion: the verdict, what fails, and every fault with its fix."""
    write = _Writer(False)
    failed = [phase for phase in report.judgement.phases if phase.verdict in (Verdict.FAIL, Verdict.ERROR)]
    lines = [f"{report.target}: {report.judgement.verdict.value}, {verdict_line(report)}"]
    lines += [line for phase in failed for line in _phase(phase, write) if not phase.error]
    return "\n".join([*lines, *(_findings(report.findings, write) if report.findings else [])])


class _Writer:
    def __init__(self, color: bool) -> None:
        self.color = color

    def __call__(self, words: str, style: str) -> str:
        return f"\x1b[{style}m{words}\x1b[0m" if self.color and words else words


def _head(report: Report, write: _Writer) -> Iterator[str]:
    verdict = report.judgement.verdict
    about = facts(report.judgement)
    title = f"{write(report.judgement.pair or report.target, BOLD)}  {write(report.command, DIM)}"
    yield f"  {title}  {write(f' {verdict.value} ', f'7;{COLORS[verdict]}')}"
    if about:
        yield f"  {write(about, DIM)}"


def _phases(judgement: Judgement, write: _Writer) -> Iterator[str]:
    head = f"    {'phase':<20} {'tensors':>10} {'worst error':>12} {'threshold':>10} {'rounding':>9}"
    if any(phase.leaves for phase in judgement.phases):
        yield write(head, DIM)
    for phase in judgement.phases:
        yield from _phase(phase, write)


def _phase(phase: Phase, write: _Writer) -> Iterator[str]:
    mark = write(MARKS[phase.verdict], COLORS[phase.verdict])
    if phase.error:
        yield f"  {mark} {phase.name:<20} " + phase.error.replace("\n", f"\n{'':<25}")
        return
    if not phase.leaves:
        yield f"  {mark} {write(f'{phase.name:<20} skipped: {phase.skipped}', DIM)}"
        return
    bad = [leaf for leaf in phase.leaves if leaf.verdict is not Verdict.PASS]
    failed = sum(leaf.verdict is Verdict.FAIL for leaf in bad)
    count = f"{failed} of {len(phase.leaves)}" if failed else str(len(phase.leaves))
    worst = phase.worst or phase.leaves[0]
    error = write(f"{number(worst.error):>12}", COLORS[phase.verdict])
    rest = write(f"{number(worst.limit):>10} {number(worst.floor):>9}", DIM)
    yield f"  {mark} {phase.name:<20} {count:>10} {error} {rest}"
    bad.sort(key=lambda leaf: (leaf.verdict is not Verdict.FAIL, -leaf.error))
    for place, leaf in enumerate(bad[:SHOWN]):
        last = place == len(bad) - 1
        yield _leaf(leaf, "└─" if last else "├─", write)
    if len(bad) > SHOWN:
        yield write(f"    └─ and {len(bad) - SHOWN} more", DIM)


def _leaf(leaf: Leaf, branch: str, write: _Writer) -> str:
    mark = write(MARKS[leaf.verdict], COLORS[leaf.verdict])
    reason = write(f"  {leaf.reason}", DIM) if leaf.reason else ""
    return (
        f"    {write(branch, DIM)} {mark} {leaf.name}  {write(number(leaf.error), COLORS[leaf.verdict])}{reason}"
    )


def _layers(report: Report, write: _Writer) -> Iterator[str]:
    found = list(_branches(tree(report.layers), None, ""))
    width = max(len(label) + len(name) for label, name, _ in found) + 2
    yield "    " + write(f"{'layer':<{width}} {'forward':>9} {'gradient':>9}", DIM)
    for label, name, layer in found:
        mark = write(MARKS[layer.verdict], COLORS[layer.verdict])
        errors = write(f"{number(layer.outputs):>9} {number(layer.gradient):>9}", COLORS[layer.verdict])
        classes = write(" → ".join(filter(None, layer.classes)), DIM)
        padding = " " * (width - len(label) - len(name))
        here = write(f"  ◀ {layer.fault}", "1;31") if layer.fault else ""
        yield f"  {mark} {write(label, DIM)}{name}{padding} {errors}  {classes}{here}"
    if report.unmatched:
        shown = ", ".join(report.unmatched[:SHOWN]) + (", ..." if len(report.unmatched) > SHOWN else "")
        yield write(f"    without counterpart in the port, judged with what surrounds them: {shown}", DIM)


def _branches(
    found: Mapping[str | None, list[Layer]], place: str | None, inner: str
) -> Iterator[tuple[str, str, Layer]]:
    """What is drawn in front of a layer, its name within its parent, and the layer."""
    inside = found.get(place, [])
    for order, layer in enumerate(inside):
        last = order == len(inside) - 1
        local = layer.place.removeprefix(f"{place}.") if place else layer.place
        branch, below = ("", "") if place is None else ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield inner + branch, local or "(model)", layer
        yield from _branches(found, layer.place, inner + below)


def _findings(findings: tuple[Finding, ...], write: _Writer) -> Iterator[str]:
    yield write(f"  {_count(len(findings), 'fault')}", BOLD)
    for place, finding in enumerate(findings, 1):
        yield f"  {write(f'{place}. {finding.title}', '31')}  {number(finding.error)}"
        yield f"     {finding.detail}"
        if finding.name:
            left = f"explains it down to {number(finding.left)}"
            yield f"     {write('why', DIM)}  {write(finding.name, BOLD)}: {left}"
        elif finding.tried:
            yield f"     {write('why', DIM)}  none of {finding.tried} known explanations makes the error vanish"
        if finding.fix:
            yield f"     {write('fix', DIM)}  {write(finding.fix, '32')}"
        if finding.others:
            yield f"     {write(f'or   {finding.alternatives}', DIM)}"
        if finding.source:
            yield f"     {write('at', DIM)}   {finding.source}"


def _last(report: Report, write: _Writer) -> str:
    verdict = report.judgement.verdict
    return f"  {write(verdict.value, f'1;{COLORS[verdict]}')}  {verdict_line(report)}"


def _wrapped(lines: tuple[str, ...], indent: str) -> Iterator[str]:
    for line in lines:
        yield textwrap.fill(line, 110, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _count(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
