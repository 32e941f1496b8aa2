"""A report as one page that needs nothing else: no network, no other file."""

import math
from collections.abc import Iterator, Mapping
from html import escape

from parity.report import plots
from parity.report.findings import Finding, Layer, Report, tree
from parity.report.page import SCRIPT, STYLE
from parity.report.text import MARKS, facts, number, verdict_line
from parity.verdict import ONE_STEP, Judgement, Leaf, Phase, Verdict

SPREADS = (
    "Errors of the whole run: a fault shows in every layer behind it, and through the gradient in those before. "
    "Marked is where one lies by itself; a fault of the glue lies in front of the layer."
)
EXACT, WRONG = -17.0, 1.0  # powers of ten between which a bar grows


def html(report: Report) -> str:
    """The page."""
    judgement = report.judgement
    sections = [
        _section("What differs, and why", _findings(report.findings)),
        _section("Phases", _phases(judgement)),
        _section("Errors", _errors(report)),
        _section("Layers", _layers(report)),
        _section("Worth knowing", _warnings(judgement.warnings)),
        _section("Weights", _weights(judgement.bridge)),
    ]
    title = escape(judgement.pair or report.target)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}: {judgement.verdict.value}</title>"
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{_header(report)}{''.join(sections)}</main>"
        f'<div id="tip" hidden></div><script>{SCRIPT}</script></body></html>\n'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _header(report: Report) -> str:
    judgement = report.judgement
    kind = _kind(judgement.verdict)
    about = "".join(f"<span>{escape(part)}</span>" for part in facts(judgement).split(" · ") if part)
    source = f"<span>pair at {escape(str(report.source))}</span>" if report.source else ""
    line = escape(verdict_line(report)).replace("\n", "<br>")
    return (
        f'<header class="{kind}"><div class="badge">{judgement.verdict.value}</div><div>'
        f"<h1>{escape(judgement.pair or report.target)}<small>{escape(report.command)}</small></h1>"
        f'<p class="lead">{line[:1].upper()}{line[1:]}.</p><p class="facts">{about}{source}</p></div></header>'
    )


def _findings(findings: tuple[Finding, ...]) -> str:
    return "".join(f'<article class="fault">{"".join(_finding(finding))}</article>' for finding in findings)


def _finding(finding: Finding) -> Iterator[str]:
    other = finding.port if finding.port != finding.place else ""
    port = f' <span class="dim">in the port {escape(other)}</span>' if other else ""
    yield f'<div class="what"><span class="tag">{escape(finding.kind)}</span><b>{escape(finding.place)}</b>{port}'
    yield f'<span class="error">{number(finding.error)}</span></div><p>{escape(_sentence(finding))}</p>'
    if finding.name:
        left = f"under it the error falls to {number(finding.left)}"
        yield f'<p class="why"><b>{escape(finding.name)}</b> <span class="dim">{left}</span></p>'
    elif finding.tried:
        yield f'<p class="dim">None of {finding.tried} known explanations makes the error vanish.</p>'
    if finding.fix:
        yield f'<p class="fix">{escape(finding.fix)}</p>'
    if finding.others:
        yield f'<p class="dim">Fits as well: {escape(finding.alternatives)}.</p>'
    if finding.source:
        yield f'<p class="source">{escape(str(finding.source))}</p>'


def _sentence(finding: Finding) -> str:
    words = finding.detail[:1].upper() + finding.detail[1:]
    return f"{words}{', in training' if finding.only_in_training else ''}."


def _phases(judgement: Judgement) -> str:
    names = ("", "phase", "tensors", "worst error", "", "threshold", "rounding")
    head = f'<div class="row head">{"".join(f"<span>{name}</span>" for name in names)}</div>'
    first = next((phase for phase in judgement.phases if phase.verdict is Verdict.FAIL), None)
    rows = "".join(_phase(phase, opened=phase is first) for phase in judgement.phases)
    return f'<div class="table">{head}{rows}</div>'


def _phase(phase: Phase, *, opened: bool) -> str:
    kind = _kind(phase.verdict)
    mark = f'<span class="mark {kind}">{MARKS[phase.verdict]}</span>'
    name = f"<span>{phase.name.replace('_', ' ')}</span>"
    if not phase.leaves:
        why = escape(phase.error or f"skipped: {phase.skipped}").replace("\n", "<br>")
        return f'<div class="row {kind}">{mark}{name}<span class="wide">{why}</span></div>'
    worst = phase.worst or phase.leaves[0]
    bad = sum(leaf.verdict is Verdict.FAIL for leaf in phase.leaves)
    count = f"{bad} of {len(phase.leaves)}" if bad else str(len(phase.leaves))
    cells = f"{mark}{name}<span>{count}</span><span>{number(worst.error)}</span>{_bar(worst, kind)}"
    cells += f"<span>{number(worst.limit)}</span><span>{number(worst.floor)}</span>"
    leaves = sorted(phase.leaves, key=lambda leaf: (leaf.verdict is not Verdict.FAIL, -plots.known(leaf.error)))
    return (
        f'<details class="phase"{" open" if opened else ""}><summary class="row {kind}">{cells}</summary>'
        f'<div class="leaves">{"".join(map(_leaf, leaves))}</div></details>'
    )


def _leaf(leaf: Leaf) -> str:
    kind = _kind(leaf.verdict)
    reason = f'<span class="reason">{escape(leaf.reason)}</span>' if leaf.reason else "<span></span>"
    return (
        f'<div class="leaf"><span class="mark {kind}">{MARKS[leaf.verdict]}</span><code>{escape(leaf.name)}</code>'
        f"<span>{number(leaf.error)}</span>{_bar(leaf, kind)}{reason}</div>"
    )


def _bar(leaf: Leaf, kind: str) -> str:
    limit = f'<u style="left:{_share(leaf.limit):.1f}%"></u>' if math.isfinite(leaf.limit) else ""
    return f'<span class="bar"><i class="{kind}" style="width:{_share(leaf.error):.1f}%"></i>{limit}</span>'


def _share(error: float) -> float:
    """Of a bar's length, in percent."""
    if math.isnan(error) or error <= 0:
        return 0.0
    power = math.log10(error) if math.isfinite(error) else WRONG
    return 100 * min(1.0, max(0.02, (power - EXACT) / (WRONG - EXACT)))


def _errors(report: Report) -> str:
    first, later = plots.errors(report.judgement), plots.updates(report.judgement)
    if not first:
        return ""
    keys = {"pass": "agrees", "fail": "differs", "abstain": "abstains", "limit": "threshold"}
    if any(math.isfinite(leaf.floor) for phase in report.judgement.phases for leaf in phase.leaves):
        keys["floor"] = "what rounding does to torch itself"
    legend = "".join(f'<span><i class="key {kind}"></i>{words}</span>' for kind, words in keys.items())
    found = f"<figure>{first}<figcaption>Relative error of every tensor, by phase."
    found += f'<p class="legend">{legend}</p></figcaption></figure>'
    if later:
        rates = report.judgement.facts.get("rates") or []
        rate = f" Learning rate {rates[0][0]:g} to {rates[-1][0]:g}." if rates and rates[0] != rates[-1] else ""
        words = f"After every update: the largest error of a parameter's change, and the median.{rate}"
        found += f"<figure>{later}<figcaption>{words}</figcaption></figure>"
    return found


def _layers(report: Report) -> str:
    if not report.layers:
        return ""
    names = ("layer", "torch", "port", "forward", "", "gradient", "")
    head = f'<div class="layer head">{"".join(f"<span>{name}</span>" for name in names)}</div>'
    body = f'<div class="table layers">{head}{"".join(_branches(tree(report.layers), None, 0))}</div>'
    if any(layer.fault for layer in report.layers):
        body = f'<p class="dim">{SPREADS}</p>{body}'
    if report.unmatched:
        names = ", ".join(f"<code>{escape(name)}</code>" for name in report.unmatched)
        body += f'<p class="dim">Without counterpart, judged with what surrounds them: {names}.</p>'
    return body


def _branches(found: Mapping[str | None, list[Layer]], place: str | None, depth: int) -> Iterator[str]:
    for layer in found.get(place, []):
        local = layer.place.removeprefix(f"{place}.") if place else layer.place
        port = f"<code>{escape(layer.classes[1])}</code>" if layer.classes[1] else ""
        port += f' <span class="dim">{escape(layer.port)}</span>' if layer.port not in (layer.place, "") else ""
        here = f'<span class="tag here">{escape(layer.fault)}</span>' if layer.fault else ""
        mark = f'<span class="mark {_kind(layer.verdict)}">{MARKS[layer.verdict]}</span>'
        yield (
            f'<div class="layer{" faulty" if layer.fault else ""}">'
            f'<span style="padding-left:{depth * 1.4:.1f}rem">{mark} '
            f"<b>{escape(local or 'model')}</b>{here}</span>"
            f"<code>{escape(layer.classes[0])}</code><span>{port}</span>"
            f"{_heat(layer.outputs, layer)}{_heat(layer.gradient, layer)}</div>"
        )
        yield from _branches(found, layer.place, depth + 1)


def _heat(error: float, layer: Layer) -> str:
    """A number and a bar, green where rounding explains it."""
    kind = "pass" if error <= ONE_STEP else _kind(layer.verdict)
    width = f"{_share(error):.1f}%"
    return f'<span>{number(error)}</span><span class="bar"><i class="{kind}" style="width:{width}"></i></span>'


def _warnings(warnings: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in warnings)}</ul>" if warnings else ""


def _weights(lines: tuple[str, ...]) -> str:
    if not lines:
        return ""
    rows = []
    for line in lines:
        torch, arrow, port = line.partition(" -> ")
        what = f"<td><code>{escape(torch)}</code></td><td>→</td><td>{_port(port)}</td>"
        rows.append(f"<tr>{what}</tr>" if arrow else f'<tr><td colspan="3">{escape(line)}</td></tr>')
    box = '<input id="find" type="search" placeholder="find a weight" aria-label="find a weight">'
    search = box if len(rows) > 12 else ""
    body = f'<table id="weights">{"".join(rows)}</table>'
    return (
        f"<details{' open' if len(rows) <= 12 else ''}><summary>{len(rows)} rows</summary>{search}{body}</details>"
    )


def _port(words: str) -> str:
    name, space, rest = words.partition(" ")
    return f'<code>{escape(name)}</code>{space}<span class="dim">{escape(rest)}</span>'


def _kind(verdict: Verdict) -> str:
    return "fail" if verdict is Verdict.ERROR else verdict.value.lower()
