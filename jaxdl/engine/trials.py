"""The figures of a study: what its trials have reached, and which options have mattered."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdl.engine import figure
from jaxdl.engine.figure import INK

DONE, ENDED, BEST = "#0b62a4", "#b3bbc4", "#d98200"


class Point(NamedTuple):
    """A trial.

    Attributes:
      number: of the trial.
      accuracy: the last that it has reported, in [0, 1].
      done: it came to its end; otherwise it was ended early.
    """

    number: int
    accuracy: float
    done: bool


def history(points: Sequence[Point], path: Path) -> None:
    """Writes a PNG of 900 x 420 pixels: the accuracy of every trial by number, and the best up to each.

    The axis begins where four in five trials that came to their end lie above; others are marked at its foot.

    Raises:
      OSError: the file cannot be written.
    """
    drawing = figure.new(9, 4.2)
    axes = drawing.subplots()
    points = sorted(points)
    numbers, values = (np.asarray(column, float) for column in zip(*[point[:2] for point in points], strict=True))
    done = np.asarray([point.done for point in points])
    percent = 100 * values
    low, high = np.quantile(percent[done] if done.any() else percent, 0.2), percent.max()
    foot = low - max(0.5 * (high - low), 0.2)
    axes.set_ylim(foot - 0.04 * (high - foot), high + max(0.08 * (high - foot), 0.05))
    shown = np.maximum(percent, foot)
    axes.plot(numbers[~done], shown[~done], "o", ms=4, color=ENDED, label="ended early", clip_on=False)
    axes.plot(numbers[done], shown[done], "o", ms=5, color=DONE, label="trained to the end")
    if done.any():
        best = np.maximum.accumulate(np.where(done, percent, -math.inf))
        known = np.isfinite(best)
        axes.step(numbers[known], best[known], where="post", color=BEST, lw=1.6, label="best so far")
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.legend(loc="lower right", frameon=False, labelcolor=INK, ncols=3, bbox_to_anchor=(1, 1), borderpad=0)
    figure.frame(axes, "trial")
    figure.title(axes, "Accuracy on held-out images")
    figure.save(drawing, path)


def importance(shares: Mapping[str, float], title: str, path: Path) -> None:
    """Writes a PNG, 800 pixels wide: the share of each option in what makes trials differ.

    Raises:
      OSError: the file cannot be written.
    """
    ranked = sorted(shares.items(), key=lambda item: item[1])
    drawing = figure.new(8, 1.4 + 0.32 * len(ranked))
    axes = drawing.subplots()
    bars = axes.barh([name for name, _ in ranked], [100 * share for _, share in ranked], color=DONE, height=0.6)
    axes.bar_label(bars, fmt="%.0f%%", padding=4, color=INK)
    axes.xaxis.set_major_formatter("{x:g}%")
    axes.tick_params(axis="y", length=0)
    figure.frame(axes, "importance")
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    figure.title(axes, title)
    figure.save(drawing, path)
