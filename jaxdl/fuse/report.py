"""Members and what can be made of them: measured, written, drawn."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdl import files, inference, teachers, tree
from jaxdl.data import sources, subset
from jaxdl.data.loader import stored_order
from jaxdl.engine import figure, parallel, table, weights
from jaxdl.engine.run_folder import read_config
from jaxdl.inference import Trained
from jaxdl.methods.fuse import align, averaging, ensemble, soup, stacking
from jaxdl.typing import PyTree

REFRESH = 5000  # training images from which averaged weights get their running statistics
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


class Fusion:
    """Runs of one architecture and their data.

    Args:
      runs: their folders, two or more.
      data_dir: where the data lie now; None: where they lay.

    Raises:
      FileNotFoundError, ValueError: no run that has ended, no data; other architectures, inputs or classes.
    """

    def __init__(self, runs: Sequence[Path], data_dir: Path | None) -> None:
        self.runs = list(runs)
        trained = [inference.load(run) for run in runs]
        self.first = trained[0]
        for run, one in zip(runs, trained, strict=True):
            _check_same(self.first, one, f"{run} cannot be fused with {runs[0]}")
        self.members = [(one.state.params, one.state.stats) for one in trained]
        data = self.first.config.data
        self.source = sources.load(data.dataset or "mnist", data_dir or data.data_dir)
        teachers.check(self.first, self.source, runs[0])
        self.labels = np.asarray(self.source.test["label"])

    def said(self, members: Sequence[PyTree]) -> np.ndarray:
        """Probabilities (members, N, classes) of several ``(params, stats)`` for the test images."""
        params, stats = ensemble.stack(members)
        state = dataclasses.replace(self.first.state, params=params, stats=stats)
        parts = jax.device_get(self._run(state))
        return np.concatenate(
            [np.moveaxis(part, 1, 0).reshape(len(members), -1, part.shape[-1]) for part in parts], 1
        )

    @functools.cached_property
    def _run(self) -> Any:
        inputs, key = self.first.seen.inputs(), jax.random.key(0)
        run = ensemble.probabilities(
            nnx.graphdef(self.first.model), lambda images: inputs(key, {"image": images})["image"]
        )
        return parallel.evaluator(
            lambda state, batch: run(state.params, state.stats, batch["image"]),
            stored_order(self.source.test),
            parallel.make_mesh(parallel.first_devices(1)),
        )

    def refreshed(self, fused: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Averaged weights with the running statistics that belong to them."""
        params, stats = fused
        if not jax.tree.leaves(stats):
            return fused
        rows = np.arange(min(REFRESH, len(self.source.train["label"])))
        loader = stored_order(subset.take(self.source.train, rows))
        prepare = functools.partial(self.first.seen.inputs(), jax.random.key(0))
        return params, averaging.update_bn(self.first.model, params, stats, loader, prepare)

    @functools.cached_property
    def chain(self) -> list[str]:
        """See `chain_of`."""
        return chain_of(self.first.config.model.model, self.first.state.params)

    def aligned(self, members: Sequence[tuple[PyTree, PyTree]], seed: int) -> list[tuple[PyTree, PyTree]]:
        """Members with their units in one order."""
        model = self.first.model
        there = [
            weights.to_torch(model, {name: np.asarray(leaf) for name, leaf in tree.flatten(params).items()})
            for params, _ in members
        ]
        back = [weights.from_torch(model, one) for one in align.merge(there, self.chain, seed)]
        return [
            (tree.map_named(lambda name, _, own=own: own[name], params), stats)
            for own, (params, stats) in zip(back, members, strict=True)
        ]


def chain_of(model: str, params: PyTree) -> list[str]:
    """The layers whose units can be put in another order, and behind them the last; empty where it is no chain."""
    pattern = align.CHAINS.get(model)
    names = {name.removesuffix(".weight") for name in tree.flatten(params)}
    found = [name for name in names if pattern and re.fullmatch(pattern, name)]
    return sorted(found, key=lambda name: (name.startswith("fc"), int(re.sub(r"\D", "", name))))


def _check_same(first: Trained, other: Trained, prefix: str) -> None:
    """Raises ValueError unless the weights of both are of one function of one kind of images."""
    for what in (first.config.model, other.config.model), (first.seen, other.seen):
        for field in dataclasses.fields(what[0]):
            own, theirs = (getattr(one, field.name) for one in what)
            if own != theirs and field.name != "dropout":  # which ends with training
                raise ValueError(f"{prefix}: {field.name} is {_short(theirs)} there and {_short(own)} here")


def _short(value: Any) -> str:
    return f"{len(value)} names" if isinstance(value, tuple) and len(value) > 4 else str(value)


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
    config = read_config(fusion.runs[0])
    files.write_json(folder / "config.json", config | {"fused": [str(run) for run in fusion.runs]})
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
