"""The two figures a run leaves behind: its curves, and which classes it mistakes for which."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdl.engine import figure
from jaxdl.engine.figure import INK, LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"train": "#7d8894", "validation": "#d98200", "test": "#0b62a4"}
KINDS = {"train": "train", "validation": "validation", "test": "eval"}  # of the records that make a curve
MOST_ANNOTATED = 20  # classes; beyond, the cells are too small for their numbers
MOST_NAMED = 50
LONGEST_NAME = 24  # characters of a class name

# "train", "validation" and "test": epochs, and the values there, NaN where they are not finite.
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def training_curves(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and accuracy over the epochs, on training and on test data, as a PNG of 1000 x 400 pixels.

    Values that are not finite leave a gap. A loss that falls to a tenth or less is drawn on a logarithmic scale.
    The panel of the accuracy begins where nine in ten values lie above, so that the later ones can be told apart;
    no test value is left out.

    Args:
      records: as `jaxdl.engine.log.read_records` gives them; accuracies are in [0, 1].
      path: the file, written atomically.

    Raises:
      OSError: the file cannot be written.
    """
    drawing = figure.new(10, 4)
    left, right = drawing.subplots(1, 2)
    _loss_panel(left, _curves(records, "loss"))
    _accuracy_panel(right, {name: (x, 100 * y) for name, (x, y) in _curves(records, "accuracy").items()})
    figure.save(drawing, path)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """How often each true class (row) was predicted as each class (column), as a PNG.

    Colour is the share of the true class; the diagonal has none, because the errors are what there is to see.

    Args:
      counts: (C, C) integers.
      classes: C names.
      path: the file, written atomically.

    Raises:
      ValueError: the counts are not (C, C).
      OSError: the file cannot be written.
    """
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"expected counts of shape {(len(classes),) * 2}, as there are names; got {counts.shape}")
    side = min(max(2.4, len(classes) * (0.52 if len(classes) <= MOST_ANNOTATED else 0.22)), 11)
    drawing = figure.new(side + 2.6, side + 1.6)
    axes = drawing.subplots()
    # A class without examples has a row of zeros: it must not divide by its sum.
    shares = counts * ~np.eye(len(classes), dtype=bool) / np.maximum(counts.sum(1, keepdims=True), 1)
    _colour(axes, shares)
    _name_classes(axes, classes, counts.sum(1))
    if len(classes) <= MOST_ANNOTATED:
        _annotate(axes, counts, shares)
    correct, total = int(np.trace(counts)), int(counts.sum())
    figure.title(axes, f"Accuracy {correct / total:.2%}: {correct} of {total}" if total else "No examples")
    figure.save(drawing, path)


def _curves(records: Sequence[Mapping[str, Any]], name: str) -> Curves:
    curves = {}
    for label, kind in KINDS.items():
        points = [(record["epoch"], record[name]) for record in records if record["kind"] == kind]
        epochs, values = np.array(points, np.float64).reshape(-1, 2).T
        curves[label] = epochs, np.where(np.isfinite(values), values, np.nan)
    return curves


def _loss_panel(axes: "Axes", curves: Curves) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    values = _finite(curves)
    decades = math.log10(values.max()) - math.log10(values.min()) if len(values) and values.min() > 0 else 0
    if decades >= 1:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.7 else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    figure.title(axes, "Loss (logarithmic)" if decades >= 1 else "Loss")
    _draw(axes, curves, "{:.3g}")


def _accuracy_panel(axes: "Axes", curves: Curves) -> None:
    values, (epochs, tests) = _finite(curves), curves["test"]
    title = "Accuracy"
    if len(values):
        low = min([np.quantile(values, 0.1), *_finite({"test": curves["test"]})])
        room = max(0.06 * (values.max() - low), 0.2)
        bottom, top = low - room, values.max() + room
        axes.set_ylim(bottom, min(top, 100 + 0.04 * (top - bottom)))  # too little for a tick beyond 100%
    if np.isfinite(tests).any():
        best = len(tests) - 1 - int(np.nanargmax(tests[::-1]))  # the last of equals, as in the run's summary
        axes.plot(epochs[best], tests[best], "o", ms=11, mfc="none", mec=COLOURS["test"], clip_on=False)
        title = f"Accuracy, best on test data {tests[best]:.2f}% at epoch {round(epochs[best], 2):g}"
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.title(axes, title)
    _draw(axes, curves, "{:.2f}%")


def _finite(curves: Curves) -> np.ndarray:
    values = np.concatenate([values for _, values in curves.values()])
    return values[np.isfinite(values)]


def _draw(axes: "Axes", curves: Curves, form: str) -> None:
    """The lines over their epochs, and at the right end of each its name and last value."""
    ends = []
    for name, (epochs, values) in curves.items():
        marker = "o" if len(values) == 1 or (name == "test" and len(values) <= 30) else ""
        axes.plot(epochs, values, marker=marker, ms=4, lw=1.8 if name == "test" else 1.2, color=COLOURS[name])
        known = values[np.isfinite(values)]
        if len(known):
            ends.append((known[-1], name, f"{name} {form.format(values[-1])}"))
    last = max((epochs.max() for epochs, _ in curves.values() if len(epochs)), default=1)
    axes.set_xlim(0, 1.02 * last)
    figure.frame(axes, "epoch")
    _label_ends(axes, ends)


def _label_ends(axes: "Axes", ends: list[tuple[float, str, str]]) -> None:
    """Writes each label at the height of its value; those that would touch are pushed apart."""
    axes.autoscale_view()  # or the heights would be those of an empty panel
    to_height, ends = axes.transData - axes.transAxes, sorted(ends)
    heights = [to_height.transform((0, value))[1] for value, _, _ in ends]
    raised = list(itertools.accumulate(heights, lambda below, height: max(height, below + 0.07)))
    push = sum(up - height for up, height in zip(raised, heights, strict=True)) / max(len(ends), 1)
    for height, (_, name, text) in zip(raised, ends, strict=True):
        axes.text(
            1.02, height - push, text, transform=axes.transAxes, va="center", color=COLOURS[name], weight="bold"
        )


def _colour(axes: "Axes", shares: np.ndarray) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("errors", ["#ffffff", "#fdae6b", "#a50f15"])
    cells = np.where(np.eye(len(shares), dtype=bool), np.nan, shares)
    image = axes.imshow(cells, colours.with_extremes(bad=LIGHT), vmin=0, vmax=shares.max() or 1)
    label = "share of the true class"
    axes.figure.colorbar(image, ax=axes, format="{x:.1%}", shrink=0.5, label=label).outline.set_color(LIGHT)
    axes.spines[:].set_color(LIGHT)


def _name_classes(axes: "Axes", classes: Sequence[str], examples: np.ndarray) -> None:
    places = range(0, len(classes), math.ceil(len(classes) / MOST_NAMED))
    columns = [_shortened(classes[place]) for place in places]
    rows = [name if examples[place] else f"{name} (none)" for place, name in zip(places, columns, strict=True)]
    turn = 0 if max(map(len, columns)) <= 3 else 45 if len(classes) <= MOST_ANNOTATED else 90
    # File systems allow dollars in names, which matplotlib would read as mathematics.
    axes.set_yticks(places, rows, parse_math=False)
    axes.set_xticks(places, columns, parse_math=False, rotation=turn, rotation_mode="anchor")
    for label in axes.get_xticklabels() if turn else ():
        label.set(ha="right", va="center")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _annotate(axes: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    dark = 0.7 * shares.max()
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "#78828d" if row == column else "white" if shares[row, column] > dark else INK
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
