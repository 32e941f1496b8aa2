"""Overfitting and its cures side by side: trained, measured, as a table and a picture."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jaxdl import files, inference
from jaxdl.comparison import completed
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data import sources
from jaxdl.engine import figure, table
from jaxdl.engine.figure import INK
from jaxdl.engine.log import read_records
from jaxdl.engine.metrics import spread
from jaxdl.engine.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Config = TypeVar("Config", bound=TrainConfig)
COLUMNS = 3
LONGEST_NAME = 34


@dataclasses.dataclass(frozen=True)
class Measured:
    """One training: the mean over its training and its test images, with the weights at its end.

    Attributes:
      cure, seed: which.
      train_accuracy, test_accuracy: in [0, 1].
      train_loss, test_loss: cross-entropy alone, without dropout and augmentation.
      lowest_test_loss: of all epochs.
    """

    cure: str
    seed: int
    train_accuracy: float
    test_accuracy: float
    train_loss: float
    test_loss: float
    lowest_test_loss: float


def compare(
    config: Any, arms: Mapping[str, Config], technique: Callable[[Any, sources.Source], Any], out: Path
) -> int:
    """Trains every arm with every seed; prints, writes and draws what came out.

    Args:
      config: the options without a cure.
      arms: name -> options; the first is what the others are compared with.
      technique: see `jaxdl.train.command`.
      out: the folder for ``regularize.json``, ``regularize.png`` and the runs.

    Returns:
      The exit status, 0.

    Raises:
      ValueError: no seeds, or what a training finds wrong.
      IncompleteError: a training did not come to its end.
    """
    if config.regularize.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {config.regularize.seeds}")
    found: dict[str, list[Measured]] = {name: [] for name in arms}
    for seed in range(config.run.seed, config.run.seed + config.regularize.seeds):
        for name, options in arms.items():
            run = out / f"seed-{seed}" / folder_name(name)
            one = replace(options, {"seed": seed})
            completed(one, technique, run)
            found[name].append(measured(name, one, technique, run))
            if not config.run.quiet:
                print(f"{name}, seed {seed}: {found[name][-1].test_accuracy:.2%} on test images", flush=True)
    print("\n".join(rows(found)))
    listed = {name: [dataclasses.asdict(one) for one in several] for name, several in found.items()}
    files.write_json(
        out / "regularize.json", {"options": to_dict(config) | {"out": None, "resume": False}, "runs": listed}
    )
    first = out / f"seed-{config.run.seed}"
    draw(
        {name: (first / folder_name(name), several[0]) for name, several in found.items()}, out / "regularize.png"
    )
    return 0


def folder_name(arm: str) -> str:
    """A name for the file system."""
    return "".join(letter if letter.isalnum() or letter in "._-=" else "-" for letter in arm)


def measured(name: str, config: Config, technique: Callable[[Config, sources.Source], Any], run: Path) -> Measured:
    """Measures a complete run, which was trained with ``config``, on its training and on the test images."""
    trained = inference.load(run)
    source, _ = sources.chosen(trained.config.data.dataset, config.data.data_dir)
    few = technique(config, source).data(source)
    own, tested = trained.evaluate(dataclasses.replace(few, test=few.train)), trained.evaluate(few)
    losses = [record["loss"] for record in read_records(run / "metrics.jsonl") if record["kind"] == "eval"]
    return Measured(
        name,
        config.run.seed,
        own["accuracy"],
        tested["accuracy"],
        own["loss"],
        tested["loss"],
        min(losses),
    )


def rows(found: Mapping[str, Sequence[Measured]]) -> list[str]:
    """The table: means over the seeds, and what each cure gains over the first, in points."""
    plain = next(iter(found.values()))
    lines = []
    for name, several in found.items():
        gains = [100 * (a.test_accuracy - b.test_accuracy) for a, b in zip(several, plain, strict=True)]
        gap = np.mean([one.train_accuracy - one.test_accuracy for one in several])
        accuracy = spread([100 * one.test_accuracy for one in several])
        deviation = f" ± {accuracy.std:.2f}" if accuracy.n > 1 else ""
        numbers = [np.mean([getattr(one, field) for one in several]) for field in ("train_loss", "test_loss")]
        lines.append(
            [
                name,
                f"{np.mean([one.train_accuracy for one in several]):.2%}",
                f"{accuracy.mean:.2f}{deviation}%",
                f"{100 * gap:.2f}",
                *(f"{number:.3f}" for number in numbers),
                f"{np.mean(gains):+.2f}" if several is not plain else "",
            ]
        )
    titles = ["cure", "train accuracy", "test accuracy", "gap", "train loss", "test loss", "gain"]
    return table.lines(titles, lines)


def draw(runs: Mapping[str, tuple[Path, Measured]], path: Path) -> None:
    """A panel for each run with its losses over the epochs; the plain run's test loss lies behind each.

    A PNG of 1100 pixels' width, of 240 more in height for every three runs.
    """
    curves = {name: _losses(run) for name, (run, _) in runs.items()}
    lines = math.ceil(len(runs) / COLUMNS)
    drawing = figure.new(11, 2.4 * lines + 0.2)
    panels = drawing.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    first = next(iter(curves.values()))["test"]
    for axes, (name, (_, one)) in zip(panels, runs.items(), strict=False):
        axes.plot(*first, color="#d5dae0", lw=4, label="test, without a cure")
        _panel(axes, curves[name])
        figure.title(axes, name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
        said = f"train {one.train_accuracy:.1%}\ntest {one.test_accuracy:.1%}"
        axes.text(0.97, 0.94, said, transform=axes.transAxes, ha="right", va="top", fontsize=9, color=INK)
    for axes in panels[len(runs) :]:
        axes.set_visible(False)
    # Lower training losses leave the panel: what they go down to says no more than that.
    lowest = min(losses.min() for curve in curves.values() for losses in [curve["test"][1]])
    panels[0].set_yscale("log")
    panels[0].set_ylim(lowest / 4, None)
    panels[0].legend(frameon=False, fontsize=8, loc="lower left")
    figure.save(drawing, path)


def _panel(axes: "Axes", curve: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    for split, (epochs, losses) in curve.items():
        axes.plot(epochs, losses, color=COLOURS[split], lw=1.6, label=split)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("loss")
    figure.frame(axes, "epoch")
    axes.label_outer()


def _losses(run: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The loss of training, as it was trained, and on the test images, by epoch."""
    records = read_records(run / "metrics.jsonl")
    found = {}
    for split, kind in (("train", "train"), ("test", "eval")):
        points = [(record["epoch"], record["loss"]) for record in records if record["kind"] == kind]
        epochs, losses = np.array(points, np.float64).reshape(-1, 2).T
        found[split] = epochs, losses
    return found
