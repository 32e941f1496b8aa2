"""The chart of the ratios: how far ahead of PyTorch each cell is, with its interval and its goal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.claims import Claim
from benchmarks.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AHEAD, BEHIND, OPEN = "#0b62a4", "#b5482a", "#9aa4af"
LIGHT, INK = "#e4e7eb", "#333a42"
WIDTH, ROW = 10.0, 0.34  # inches
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def ratios(claims: Sequence[Claim], path: Path) -> None:
    """Draws a bar a claim, on a logarithmic axis, as a PNG of 1000 pixels' width.

    The bar goes to the right where the left side of the claim is better, whether more is better or less. A black
    stroke is its 95 % interval, a triangle its goal.

    Args:
      claims: of kind "ratio".
      path: the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margin = ConstrainedLayoutEngine(rect=(0.005, 0, 0.97, 1))
    figure = Figure((WIDTH, 1.2 + ROW * len(claims)), dpi=100, layout=margin)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, claim in enumerate(claims):
        _bar(axes, place, claim)
    _frame(axes, claims)
    figure.savefig(path, format="png")


def advantage(claim: Claim) -> Estimate:
    """The ratio, turned over where less is better: above 1 the left side is ahead."""
    found = claim.estimate
    return found if claim.larger_is_better else Estimate(1 / found.value, 1 / found.high, 1 / found.low)


def wanted(claim: Claim) -> float | None:
    """The goal, turned over in the same way."""
    return claim.goal if claim.goal is None or claim.larger_is_better else 1 / claim.goal


def colour(claim: Claim) -> str:
    """Of a bar: ahead, behind, or neither can be said."""
    return {"ahead": AHEAD, "behind": BEHIND}.get(claim.verdict, OPEN)


def _bar(axes: "Axes", place: int, claim: Claim) -> None:
    found = advantage(claim)
    axes.barh(place, found.value - 1, 0.62, left=1, color=colour(claim))
    axes.plot((found.low, found.high), (place, place), color=INK, lw=1.6, solid_capstyle="butt")
    if (goal := wanted(claim)) is not None:
        axes.plot(goal, place - 0.44, "v", ms=6, color=INK, clip_on=False)
    beside, value = axes.get_yaxis_transform(), claim.shown(claim.estimate.value)
    words = [claim.outcome, "" if claim.larger_is_better else "less is better", "noisy" if claim.noisy else ""]
    # In points, since long names leave the axes little width.
    for text, right, weight in ((value, 6, "bold"), ("; ".join(filter(None, words)), 42, "normal")):
        axes.annotate(
            text,
            (1, place),
            (right, 0),
            xycoords=beside,
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            weight=weight,
        )


def _frame(axes: "Axes", claims: Sequence[Claim]) -> None:
    ends = [end for claim in claims for end in (advantage(claim).low, advantage(claim).high, wanted(claim) or 1)]
    low, high = min([0.8, *ends]), max([1.25, *ends])
    axes.set_xscale("log")
    axes.set_xlim(low / 1.05, high * 1.05)
    axes.set_ylim(len(claims) - 0.4, -0.8)
    axes.set_yticks(range(len(claims)), [claim.what for claim in claims], fontsize=9, parse_math=False)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color=INK, lw=1)
    axes.grid(axis="x", color=LIGHT)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title = "How far ahead the left side is (line: 95 % interval, triangle: goal)"
    axes.figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold", color=INK)
