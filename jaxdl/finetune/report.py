"""What weights of another task are worth: the same training with and without them, as a table and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.comparison import completed
from jaxdl.config import replace, to_dict
from jaxdl.engine import figure, table
from jaxdl.engine.metrics import spread
from jaxdl.finetune.options import FinetuneConfig

ARMS = {"scratch": "from scratch", "pretrained": "pre-trained"}
COLOURS = {"scratch": "#7d8894", "pretrained": "#0b62a4"}
# labels -> arm -> the accuracy of each seed
Accuracies = dict[int, dict[str, list[float]]]


def compare(config: FinetuneConfig, technique: Callable[..., Any], out: Path) -> int:
    """Trains both sides for each number of labels and each seed; prints, writes and draws what came out.

    Each training is a run in a folder of its own under ``out``; those that are complete are not trained again.

    Args:
      config: the options of all of them.
      technique: see `jaxdl.train.command`.
      out: the folder for ``transfer.json``, ``transfer.png`` and the runs.

    Returns:
      The exit status, 0.

    Raises:
      ValueError: no labels or seeds, or what a training finds wrong; the folder holds another comparison.
      IncompleteError: a training did not come to its end.
    """
    options, found = config.finetune, dict[int, dict[str, list[float]]]()
    if not options.labels or options.seeds < 1:
        raise ValueError("--compare-scratch expects numbers of --labels, and at least one of --seeds")
    for count in sorted(set(options.labels)):
        found[count] = {arm: [] for arm in ARMS}
        for seed in range(config.run.seed, config.run.seed + options.seeds):
            for arm in ARMS:
                path = out / f"labels-{count}" / f"{arm}-seed-{seed}"
                accuracy = completed(one_of(config, count, arm, seed), technique, path)["accuracy"]
                found[count][arm].append(accuracy)
                if not config.run.quiet:
                    print(f"{count} labels, {ARMS[arm]}, seed {seed}: {accuracy:.2%}", flush=True)
    print("\n".join(rows(found)))
    kept = {"options": to_dict(config) | {"out": None, "resume": False}, "accuracy": found, "gain": gains(found)}
    files.write_json(out / "transfer.json", kept)
    draw(found, out / "transfer.png")
    return 0


def one_of(config: FinetuneConfig, labels: int, arm: str, seed: int) -> FinetuneConfig:
    """The options of one of the trainings."""
    changes = {"labels": (labels,), "scratch": arm == "scratch", "compare_scratch": False, "seed": seed}
    return replace(config, changes)


def gains(found: Accuracies) -> dict[int, dict[str, Any]]:
    """For each number of labels the gain of the pre-trained over the other, pair by pair, in points."""
    differences = {
        count: [100 * (a - b) for a, b in zip(arms["pretrained"], arms["scratch"], strict=True)]
        for count, arms in found.items()
    }
    return {count: spread(values).known() for count, values in differences.items()}


def rows(found: Accuracies) -> list[str]:
    """The table: mean and standard deviation over the seeds, and the mean gain with its 95% interval."""
    lines = []
    for count, gain in gains(found).items():
        means = [_mean(found[count][arm]) for arm in ARMS]
        interval = "" if gain["low"] is None else f"{gain['low']:+.1f} to {gain['high']:+.1f}"
        lines.append([str(count), *means, f"{gain['mean']:+.1f}", interval])
    return table.lines(["labels", *ARMS.values(), "gain in points", "95% interval"], lines)


def draw(found: Accuracies, path: Path) -> None:
    """The accuracy over the number of labels, every seed a dot, as a PNG of 700 x 450 pixels."""
    drawing = figure.new(7, 4.5)
    axes = drawing.subplots()
    counts = np.array(list(found))
    for arm, name in ARMS.items():
        values = np.array([found[count][arm] for count in found]) * 100
        axes.plot(counts, values.mean(1), marker="D", ms=5, lw=1.8, color=COLOURS[arm], label=name)
        axes.plot(counts, values, "o", ms=4, alpha=0.45, mew=0, color=COLOURS[arm])
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, "training images with a label")
    figure.title(axes, "Test accuracy, mean and each seed")
    axes.legend(frameon=False, loc="lower right")
    figure.save(drawing, path)


def _mean(values: Sequence[float]) -> str:
    found = spread([100 * value for value in values])
    return f"{found.mean:.2f} ± {found.std:.2f}%" if found.n > 1 else f"{found.mean:.2f}%"
