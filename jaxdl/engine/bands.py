"""The figure of a sweep: the accuracy of each setting over the epochs, and where its members end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxdl.engine import figure
from jaxdl.engine.figure import INK, LIGHT
from jaxdl.engine.metrics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0b62a4", "#d98200", "#2c8a4b", "#a8322d", "#7a4fa3", "#6b4a2f", "#c2579b", "#4f8f96")
GREY = "#b3bbc4"
MOST_NAMED = 24  # settings at the right, from the best on
LONGEST_NAME = 44


class Line(NamedTuple):
    """A setting.

    Attributes:
      name: for a person.
      epochs: (points,).
      accuracies: (members, points) in [0, 1], NaN where a member was not measured.
    """

    name: str
    epochs: np.ndarray
    accuracies: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """The accuracy of each member at the end, of those that came so far."""
        return self.accuracies[np.isfinite(self.accuracies[:, -1]), -1]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Writes the PNG, 1200 pixels wide.

    At the left the mean over the members of each setting, within a band from the lowest to the highest. At the
    right every member, the mean and its 95% confidence interval; from the best setting downwards. The best have
    colours.

    Raises:
      OSError: the file cannot be written.
    """
    ranked = sorted(lines, key=lambda line: -line.last.mean() if len(line.last) else np.inf)
    named = ranked[:MOST_NAMED]
    drawing = figure.new(12, max(4.2, 1.4 + 0.26 * len(named)))
    left, right = drawing.subplots(1, 2)
    _curves(left, ranked)
    _ends(right, named)
    if len(named) < len(ranked):
        figure.title(right, f"At the end, the best {len(named)} of {len(ranked)} settings")
    figure.save(drawing, path)


def _colour(place: int) -> str:
    return COLOURS[place] if place < len(COLOURS) else GREY


def _curves(axes: "Axes", ranked: Sequence[Line]) -> None:
    for place, line in reversed([*enumerate(ranked)]):
        percent = 100 * np.ma.masked_invalid(line.accuracies)
        marker = "o" if len(line.epochs) == 1 else ""
        axes.plot(line.epochs, percent.mean(0), marker=marker, color=_colour(place), lw=1.6)
        if len(percent) > 1:
            axes.fill_between(line.epochs, percent.min(0), percent.max(0), color=_colour(place), alpha=0.18, lw=0)
    values = np.concatenate([100 * line.accuracies.ravel() for line in ranked])
    values = values[np.isfinite(values)]
    if len(values):
        # The lowest tenth, of first epochs and of failures, would press the others together.
        low, high = np.quantile(values, 0.1), values.max()
        axes.set_ylim(low - max(0.06 * (high - low), 0.2), min(high + max(0.06 * (high - low), 0.2), 100.2))
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, "epoch")
    figure.title(
        axes, "Accuracy: mean, lowest to highest" if any(len(x.accuracies) > 1 for x in ranked) else "Accuracy"
    )


def _ends(axes: "Axes", named: Sequence[Line]) -> None:
    for place, line in enumerate(named):
        if not len(line.last):
            continue
        found, colour = spread((100 * line.last).tolist()), _colour(place)
        # A little below the line, which would hide them.
        axes.plot(
            100 * line.last, np.full(len(line.last), place + 0.2), "o", ms=4, color=colour, alpha=0.45, mew=0
        )
        if found.n > 1:
            axes.plot([found.low, found.high], [place, place], color=colour, lw=2)
        axes.plot(found.mean, place, "D", ms=5, color=colour)
    names = [
        line.name if len(line.name) <= LONGEST_NAME else f"{line.name[: LONGEST_NAME - 1]}…" for line in named
    ]
    axes.set_yticks(range(len(named)), names, parse_math=False, color=INK)
    axes.set_ylim(len(named) - 0.4, -0.6)
    axes.xaxis.set_major_formatter("{x:g}%")
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="y", length=0)
    figure.frame(axes, "accuracy")
    axes.grid(axis="y", color=LIGHT)
    several = any(len(line.last) > 1 for line in named)
    figure.title(axes, "At the end, with the 95% interval of the mean" if several else "At the end")
