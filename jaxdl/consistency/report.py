"""What images without labels are worth: every method with several seeds, as a table, JSON and a picture."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdl import comparison, files
from jaxdl.consistency.options import METHODS, ConsistencyConfig, ConsistencyOptions, technique, with_method
from jaxdl.engine import figure, table
from jaxdl.engine.metrics import spread

COLOUR, BASE = "#0b62a4", "#7d8894"


def compare(config: ConsistencyConfig) -> int:
    """Trains whatever is not trained yet and reports; returns the exit status.

    Raises:
      ValueError: no seeds, or options of one method, which the others lack.
      IncompleteError: a training did not come to its end.
    """
    options = config.consistency
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {options.seeds}")
    for name in ("weight", "ramp", "decay", "threshold", "strong"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} belongs to some methods only; --compare takes the defaults of each")
    with comparison.folder(config.run.out, "consistency") as folder:
        found: dict[str, list[float]] = {}
        for method in METHODS:
            for seed in range(config.run.seed, config.run.seed + options.seeds):
                run = with_method(config, method, seed)
                summary = comparison.completed(run, technique, folder / f"{method}-{seed}")
                found.setdefault(method, []).append(summary["accuracy"])
                print(f"{method}, seed {seed}: {summary['accuracy']:.2%}", flush=True)
        print(report(found, options, folder))
    return 0


def report(found: Mapping[str, Sequence[float]], options: ConsistencyOptions, folder: Path) -> str:
    """Writes ``consistency.json`` and ``consistency.png`` and returns the table.

    Args:
      found: the test accuracy of each seed by method, in [0, 1]; "supervised" is among them.
      options: of the comparison.
      folder: where they go.
    """
    base = float(np.mean(found["supervised"]))
    rows = {
        name: {
            "accuracies": list(values),
            "mean": float(np.mean(values)),
            "std": spread(values).known()["std"],
            "gain": float(np.mean(values)) - base,
        }
        for name, values in found.items()
    }
    shown = {name: value for name, value in dataclasses.asdict(options).items() if name in ("labels", "ratio")}
    files.write_json(folder / "consistency.json", {**shown, "methods": rows})
    draw(found, options.labels, folder / "consistency.png")
    seeds = len(found["supervised"])
    titles = ("method", f"mean of {seeds}", "std", "lowest", "highest", "gain in points")
    cells = [
        (
            name,
            f"{row['mean']:.2%}",
            "" if row["std"] is None else f"{100 * row['std']:.2f}",
            f"{min(row['accuracies']):.2%}",
            f"{max(row['accuracies']):.2%}",
            f"{100 * row['gain']:+.2f}",
        )
        for name, row in rows.items()
    ]
    return "\n".join([*table.lines(titles, cells), f"picture: {folder / 'consistency.png'}"])


def draw(found: Mapping[str, Sequence[float]], labels: int, path: Path) -> None:
    """Writes a PNG: the accuracy of each method, a dot a seed."""
    drawing = figure.new(8, 1.4 + 0.45 * len(found))
    axes = drawing.subplots()
    for place, (name, values) in enumerate(found.items()):
        colour = BASE if name == "supervised" else COLOUR
        mean = 100 * float(np.mean(values))
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, lw=2.5)
        axes.plot(100 * np.asarray(values), [place] * len(values), "o", ms=6, color=colour, alpha=0.6)
        axes.annotate(f"{mean:.2f}%", (mean, place + 0.3), ha="center", va="bottom", color=colour)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(-0.6, len(found) - 0.2)
    axes.xaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, "test accuracy")
    figure.title(axes, f"{labels} labelled images; the line is the mean, a dot a seed")
    figure.save(drawing, path)
