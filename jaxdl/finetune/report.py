"""What weights of another task are worth: the same training with and without them, as a table and a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.comparison import completed
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.engine import figure, table
from jaxdl.engine.metrics import spread

COLOURS = ("#7d8894", "#0b62a4")
# labels -> arm -> the accuracy of each seed
Accuracies = dict[int, dict[str, list[float]]]


def compare(
    config: TrainConfig, arms: Mapping[str, Mapping[str, Any]], technique: Callable[..., Any], out: Path
) -> int:
    """Trains both arms for each number of labels and each seed; prints, writes and draws what came out.

    Each training is a run in a folder of its own under ``out``; those that are complete are not trained again.

    Args:
      config: the options of all of them, ``labels`` and ``seeds`` among them.
      arms: the name of each of the two -> the options that make it; what the second gains is told.
      technique: see `jaxdl.train.command`.
      out: the folder for ``transfer.json``, ``transfer.png`` and the runs.

    Returns:
      The exit status, 0.

    Raises:
      ValueError: no labels or seeds, or what a training finds wrong; the folder holds another comparison.
      IncompleteError: a training did not come to its end.
    """
    options, found = to_dict(config), dict[int, dict[str, list[float]]]()
    if not options["labels"] or options["seeds"] < 1:
        raise ValueError("a comparison expects numbers of --labels, and at least one of --seeds")
    for count in sorted(set(options["labels"])):
        found[count] = {arm: [] for arm in arms}
        for seed in range(config.run.seed, config.run.seed + options["seeds"]):
            for arm, changes in arms.items():
                one = replace(config, {"labels": (count,), "seed": seed, **changes})
                path = out / f"labels-{count}" / f"{arm.replace(' ', '-')}-seed-{seed}"
                accuracy = completed(one, technique, path)["accuracy"]
                found[count][arm].append(accuracy)
                if not config.run.quiet:
                    print(f"{count} labels, {arm}, seed {seed}: {accuracy:.2%}", flush=True)
    print("\n".join(rows(found)))
    kept = {"options": options | {"out": None, "resume": False}, "accuracy": found, "gain": gains(found)}
    files.write_json(out / "transfer.json", kept)
    draw(found, out / "transfer.png")
    return 0


def gains(found: Accuracies) -> dict[int, dict[str, Any]]:
    """For each number of labels the gain of the second arm over the first, pair by pair, in points."""
    differences = {
        count: [100 * (after - before) for before, after in zip(*arms.values(), strict=True)]
        for count, arms in found.items()
    }
    return {count: spread(values).known() for count, values in differences.items()}


def rows(found: Accuracies) -> list[str]:
    """The table: mean and standard deviation over the seeds, and the mean gain with its 95% interval."""
    lines = []
    for count, gain in gains(found).items():
        means = map(_mean, found[count].values())
        interval = "" if gain["low"] is None else f"{gain['low']:+.1f} to {gain['high']:+.1f}"
        lines.append([str(count), *means, f"{gain['mean']:+.1f}", interval])
    arms = next(iter(found.values()))
    return table.lines(["labels", *arms, "gain in points", "95% interval"], lines)


def draw(found: Accuracies, path: Path) -> None:
    """The accuracy over the number of labels, every seed a dot, as a PNG of 700 x 450 pixels."""
    drawing = figure.new(7, 4.5)
    axes = drawing.subplots()
    counts = np.array(list(found))
    for arm, colour in zip(next(iter(found.values())), COLOURS, strict=True):
        values = np.array([found[count][arm] for count in found]) * 100
        axes.plot(counts, values.mean(1), marker="D", ms=5, lw=1.8, color=colour, label=arm)
        axes.plot(counts, values, "o", ms=4, alpha=0.45, mew=0, color=colour)
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
