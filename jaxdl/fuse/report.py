"""What can be made of the members: measured, written, drawn."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxdl import files
from jaxdl.engine import figure, table, weights
from jaxdl.engine.run_folder import read_config
from jaxdl.fuse.fusion import Fusion
from jaxdl.methods.fuse import ensemble, soup, stacking
from jaxdl.typing import PyTree

FITTED = " *"  # marks what was fitted on one half of the test images and measured on the other
MEMBER, FUSED = "#7d8894", "#0b62a4"


@dataclasses.dataclass(frozen=True)
class Row:
    """A member or what was made of all: how many models it runs, and how good it is on the test images."""

    name: str
    models: int
    accuracy: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Way:
    """Losses and accuracies at equal distances on the straight way between two members' weights."""

    name: str
    losses: list[float]
    accuracies: list[float]
    barrier: float


def report(fusion: Fusion, out: Path, points: int, seed: int) -> list[str]:
    """Fuses, measures, writes ``fuse.json``, ``fuse.png`` and the fused models; returns what is to be printed."""
    said = fusion.said(fusion.members)
    rows = [
        Row(str(run), 1, *ensemble.scores(one, fusion.labels)) for run, one in zip(fusion.runs, said, strict=True)
    ]
    mean = Row("mean of the members", 1, *np.mean([(row.accuracy, row.loss) for row in rows], 0).tolist())
    fused = [*ensembles(fusion, said, seed), *averages(fusion, out, seed)]
    ways = interpolations(fusion, points, seed)
    content = {
        "members": [dataclasses.asdict(row) for row in rows],
        "mean": dataclasses.asdict(mean),
        "fused": [dataclasses.asdict(row) for row in fused],
        "ways": [dataclasses.asdict(way) for way in ways],
    }
    files.write_json(out / "fuse.json", content)
    draw(rows, mean, fused, ways, out / "fuse.png")
    return shown(rows, mean, fused, ways, out)


def ensembles(fusion: Fusion, said: np.ndarray, seed: int) -> list[Row]:
    """What the members say together: as means, and by a trained combiner."""
    together = {
        "ensemble, mean of probabilities": ensemble.averaged(said),
        "ensemble, mean of logits": ensemble.geometric(said),
        f"stacking{FITTED}": stacking.crossed(stacking.combiner, said, fusion.labels, seed),
    }
    return [Row(name, len(said), *ensemble.scores(one, fusion.labels)) for name, one in together.items()]


def averages(fusion: Fusion, out: Path, seed: int) -> list[Row]:
    """Single models from the members' weights, each written to a folder that can be used like a run."""
    members, labels = fusion.members, fusion.labels
    singles = {"uniform": ("weights averaged", soup.mean(members))}
    if fusion.chain:
        singles["aligned"] = ("weights aligned, then averaged", soup.mean(fusion.aligned(members, seed)))
    rows = []
    for folder, (name, parts) in singles.items():
        parts = fusion.refreshed(parts)
        rows.append(Row(name, 1, *ensemble.scores(fusion.said([parts])[0], labels)))
        save(fusion, parts, out / folder)

    def score(parts: PyTree, inside: np.ndarray) -> float:
        return ensemble.scores(fusion.said([fusion.refreshed(parts)])[0][inside], labels[inside])[0]

    judged = np.empty((len(labels), len(fusion.source.classes)))
    for inside, outside in stacking.halves(labels, seed):
        parts, _ = soup.greedy(members, functools.partial(score, inside=inside))
        judged[outside] = fusion.said([fusion.refreshed(parts)])[0][outside]
    parts, chosen = soup.greedy(members, functools.partial(score, inside=np.arange(len(labels))))
    save(fusion, fusion.refreshed(parts), out / "greedy")
    name = f"greedy soup{FITTED} (all: {len(chosen)} of {len(members)})"
    return [*rows, Row(name, 1, *ensemble.scores(judged, labels))]


def interpolations(fusion: Fusion, points: int, seed: int) -> list[Way]:
    """The way from the first member to the second, and where units can be aligned, after that."""
    pairs = {"as they are": fusion.members[:2]}
    if fusion.chain:
        pairs["aligned"] = fusion.aligned(fusion.members[:2], seed)
    ways = []
    for name, (first, second) in pairs.items():
        measured = []
        for part in np.linspace(0, 1, points):
            parts = fusion.refreshed(soup.between(first, second, float(part)))
            measured.append(ensemble.scores(fusion.said([parts])[0], fusion.labels))
        accuracies, losses = (list(column) for column in zip(*measured, strict=True))
        ways.append(Way(name, losses, accuracies, soup.barrier(losses)))
    return ways


def save(fusion: Fusion, parts: tuple[PyTree, PyTree], folder: Path) -> None:
    """Writes a fused model as a run that can be used, though not resumed."""
    folder.mkdir(exist_ok=True)
    own = {"command": "python -m jaxdl.fuse", "fused": [str(run) for run in fusion.runs]}
    files.write_json(folder / "config.json", read_config(fusion.runs[0]) | own)
    weights.save(folder / "weights.safetensors", fusion.first.model, *jax.device_get(parts))


def shown(rows: Sequence[Row], mean: Row, fused: Sequence[Row], ways: Sequence[Way], out: Path) -> list[str]:
    """The table, what the best fusion gained, and the barriers."""

    def cells(row: Row) -> list[str]:
        gain = f"{100 * (row.accuracy - mean.accuracy):+.2f}" if row in fused else ""
        return [row.name, str(row.models), f"{row.accuracy:.2%}", f"{row.loss:.4f}", gain]

    lines = table.lines(
        ["", "models", "accuracy", "loss", "points over the mean"], [cells(row) for row in [*rows, mean, *fused]]
    )
    lines.append("* fitted on one half of the test images and measured on the other, both ways round")
    barriers = ", ".join(f"{way.name} {way.barrier:.3f}" for way in ways)
    lines.append(f"Barrier of the loss between the weights of the first two: {barriers}")
    return [*lines, f"{out / 'fuse.json'}, {out / 'fuse.png'}; fused models in {out}"]


def draw(rows: Sequence[Row], mean: Row, fused: Sequence[Row], ways: Sequence[Way], path: Path) -> None:
    """Bars of the accuracies, without what fell apart, and the loss on the way between two members."""
    drawing = figure.new(11, 4.2)
    left, right = drawing.subplots(1, 2, width_ratios=(3, 2))
    every = [*rows, *fused]
    lowest = min(row.accuracy for row in rows)
    low = 100 * (lowest - max(0.6 * (max(row.accuracy for row in every) - lowest), 0.001))
    values = [100 * row.accuracy for row in every]
    colours = [MEMBER] * len(rows) + [FUSED] * len(fused)
    places = range(len(every) - 1, -1, -1)
    left.barh(places, [max(value - low, 0) for value in values], left=low, color=colours, height=0.65)
    left.axvline(100 * mean.accuracy, color=figure.INK, lw=1, ls="--")
    for place, value in zip(places, values, strict=True):
        left.text(max(value, low), place, f" {value:.2f}%", va="center", fontsize=9)
    left.set_yticks(places, [row.name for row in every], parse_math=False)
    left.set_xlim(low, max(values) + 0.25 * (max(values) - low))
    left.xaxis.set_major_formatter("{x:g}%")
    figure.title(left, "Accuracy; dashed: mean of the members")
    figure.frame(left, "")
    for colour, way in zip((MEMBER, FUSED), ways, strict=False):
        parts = np.linspace(0, 1, len(way.losses))
        right.plot(
            parts, way.losses, color=colour, marker="o", ms=3, label=f"{way.name}: barrier {way.barrier:.2f}"
        )
    figure.title(right, "Loss between the first two members")
    figure.frame(right, "share of the second's weights")
    right.set_ylim(0, 1.3 * max(max(way.losses) for way in ways))  # room for the names
    right.legend(frameon=False, loc="upper left")
    figure.save(drawing, path)
