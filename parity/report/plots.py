"""The figures of the page: every tensor's error in its phase, and the error of every update. Plain SVG."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from parity.report.text import number
from parity.verdict import Judgement, Leaf, Phase, Verdict

WIDTH, HEIGHT = 1040, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 16, 46
LOWEST = 1e-18  # where an error of zero is drawn
MOST = 240  # dots a phase; the largest errors are kept


def errors(judgement: Judgement) -> str:
    """A column a phase: its tensors in the order of their errors, the threshold, the rounding floor."""
    phases = [phase for phase in judgement.phases if phase.leaves]
    if not phases:
        return ""
    values = [value for phase in phases for leaf in phase.leaves for value in (leaf.error, leaf.limit, leaf.floor)]
    scale = _Scale(values)
    column = (WIDTH - LEFT - RIGHT) / len(phases)
    parts = [*scale.grid()]
    for place, phase in enumerate(phases):
        parts += _column(phase, LEFT + place * column, column, scale)
    return _svg(parts, "relative error of every tensor, by phase")


def updates(judgement: Judgement) -> str:
    """The largest and the median error after every update in lockstep."""
    phase = next((phase for phase in judgement.phases if phase.name == "updates"), None)
    steps: dict[int, list[Leaf]] = {}
    for leaf in phase.leaves if phase else ():
        step, slash, _ = leaf.name.partition("/")
        if slash and step.isdecimal() and leaf.verdict is not Verdict.ABSTAIN:
            steps.setdefault(int(step), []).append(leaf)
    if len(steps) < 2:
        return ""
    order = sorted(steps)
    scale = _Scale([value for step in order for leaf in steps[step] for value in (leaf.error, leaf.limit)])
    width = WIDTH - LEFT - RIGHT - 40
    across = [LEFT + 20 + width * place / (len(order) - 1) for place in range(len(order))]
    worst = [max(known(leaf.error) for leaf in steps[step]) for step in order]
    middle = [sorted(known(leaf.error) for leaf in steps[step])[len(steps[step]) // 2] for step in order]
    limits = [leaf.limit for step in order for leaf in steps[step] if math.isfinite(leaf.limit)]
    parts = [*scale.grid()]
    if limits:
        parts += _threshold(LEFT, WIDTH - RIGHT, scale(max(limits)))
    parts += [
        _curve(across, [scale(value) for value in middle], "median"),
        _curve(across, [scale(v) for v in worst], "worst"),
    ]
    for x, step, value in zip(across, order, worst, strict=True):
        bad = any(leaf.verdict is Verdict.FAIL for leaf in steps[step])
        parts.append(_dot(x, scale(value), "fail" if bad else "pass", f"update {step}: worst {number(value)}", 4))
    every = math.ceil(len(order) / 20)
    parts += [_label(x, f"{step}") for x, step in list(zip(across, order, strict=True))[::every]]
    return _svg(parts, "relative error after every update")


class _Scale:
    """Errors to heights, logarithmic."""

    def __init__(self, values: Sequence[float]) -> None:
        logs = [math.log10(value) for value in values if math.isfinite(value) and value > 0]
        self.low = max(math.log10(LOWEST), math.floor(min(logs, default=-17) - 0.5))
        self.high = max(math.ceil(max(logs, default=-8) + 0.5), self.low + 4)

    def __call__(self, value: float) -> float:
        power = math.log10(value) if value > 0 and math.isfinite(value) else self.high if value > 0 else self.low
        power = min(max(power, self.low), self.high)
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - power) / (self.high - self.low)

    def grid(self) -> Iterator[str]:
        """Lines at powers of ten, with their names."""
        every = max(1, math.ceil((self.high - self.low) / 9))
        for power in range(int(self.low), int(self.high) + 1, every):
            y = self(10.0**power)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield (
                f'<text class="tick" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">10'
                f'<tspan class="power" dy="-5">{power}</tspan></text>'
            )


def _column(phase: Phase, left: float, width: float, scale: _Scale) -> Iterator[str]:
    leaves = sorted(phase.leaves, key=lambda leaf: known(leaf.error))[-MOST:]
    inner, start = width * 0.72, left + width * 0.14
    step = inner / max(len(leaves) - 1, 1)
    limits = {leaf.limit for leaf in leaves if math.isfinite(leaf.limit)}
    if len(limits) == 1:
        yield from _threshold(left + 4, left + width - 4, scale(limits.pop()))
        limits = set()
    for place, leaf in enumerate(leaves):
        x = start + place * step if len(leaves) > 1 else left + width / 2
        if limits and math.isfinite(leaf.limit):
            yield _rule(x - 3, x + 3, scale(leaf.limit), "limit")
        if math.isfinite(leaf.floor):
            yield _rule(x - 3, x + 3, scale(leaf.floor), "floor")
        what = f"{phase.name} · {leaf.name}: {number(leaf.error)}, allowed {number(leaf.limit)}"
        what += f", rounding {number(leaf.floor)}" if math.isfinite(leaf.floor) else ""
        yield _dot(x, scale(known(leaf.error)), leaf.verdict.value.lower(), what, 3.4 if len(leaves) < 60 else 2.6)
    words = phase.name.split("_")
    *first, last = phase.name.split("_")
    for line, words in enumerate(filter(None, (" ".join(first), last))):
        y = HEIGHT - BOTTOM + 20 + 14 * line
        yield f'<text class="name" x="{left + width / 2:.1f}" y="{y}">{escape(words)}</text>'


def known(error: float) -> float:
    """The error; 0 where there is none to compare."""
    return 0.0 if math.isnan(error) else error


def _dot(x: float, y: float, kind: str, words: str, radius: float) -> str:
    return f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" data-tip="{escape(words)}"/>'


def _rule(left: float, right: float, y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _threshold(left: float, right: float, y: float) -> Iterator[str]:
    """The line, and above it where no error may lie."""
    size = f'width="{right - left:.1f}" height="{max(y - TOP, 0):.1f}"'
    yield f'<rect class="beyond" x="{left:.1f}" y="{TOP}" {size}/>'
    yield _rule(left, right, y, "limit")


def _curve(xs: Sequence[float], ys: Sequence[float], kind: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline class="curve {kind}" points="{points}"/>'


def _label(x: float, words: str) -> str:
    return f'<text class="name" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}">{words}</text>'


def _svg(parts: Sequence[str], about: str) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">{body}</svg>'
