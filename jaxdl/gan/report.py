"""What generators have reached: samples over time as a picture, the judgement of each seed as a table and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.engine import figure, table
from jaxdl.engine.metrics import spread
from jaxdl.gan.judge import Judge

COLUMNS = 20  # samples in a row of the picture over time
NAMES = ("distance", "confident", "imbalance")


def report(folder: Path, seeds: Sequence[int], judge: Judge | None, classes: Sequence[str]) -> str:
    """Writes ``gan.json``, ``samples.png`` of the first seed and one in the folder of each; returns the table.

    Args:
      folder: of the command.
      seeds: whose folders are in it.
      judge: without one there is no table.
      classes: their names.
    """
    rows = [json.loads((folder / f"seed-{seed}" / "summary.json").read_text()) for seed in seeds]
    for place, seed in enumerate(seeds):
        own = folder / f"seed-{seed}"
        draw(own / "samples", own / "samples.png")
        if not place:
            draw(own / "samples", folder / "samples.png")
    found: dict[str, Any] = {"classes": list(classes), "seeds": rows}
    text = []
    if judge:
        found |= {"real": judge.real, **{name: spread([row[name] for row in rows]).known() for name in NAMES}}
        text = shown(rows, judge.real)
    files.write_json(folder / "gan.json", found)
    return "\n".join([*text, f"samples: {folder / 'samples.png'}"])


def shown(rows: Sequence[dict[str, Any]], real: dict[str, Any]) -> list[str]:
    """The table: a row a seed, of several their mean and standard deviation, and real images for comparison."""
    titles = ("", "Frechet distance", "confident", "imbalance", "smallest class", "largest class")
    named = [(f"seed {row['seed']}", row) for row in rows] + [("real images", real)]
    cells = [
        (
            name,
            f"{row['distance']:.2f}",
            f"{row['confident']:.2%}",
            f"{row['imbalance']:.3f}",
            f"{min(row['classes']):.1%}",
            f"{max(row['classes']):.1%}",
        )
        for name, row in named
    ]
    both = [spread([row[name] for row in rows]) for name in NAMES]
    forms = ("{:.2f}", "{:.2%}", "{:.3f}")
    for part in ("mean", "std") if len(rows) > 1 else ():
        values = [form.format(getattr(own, part)) for form, own in zip(forms, both, strict=True)]
        cells.insert(-1, (part, *values, "", ""))  # pyright: ignore[reportArgumentType]
    return table.lines(titles, cells)


def draw(samples: Path, path: Path) -> None:
    """Writes a PNG: a row for each time that samples were kept, a column for the noise that they are made of."""
    kept = sorted(samples.glob("*.npy"))
    drawing = figure.new(10, 0.7 + 0.47 * len(kept))
    axes = drawing.subplots()
    rows = [np.load(file)[:COLUMNS] for file in kept]
    height, _, channels = rows[0].shape[1:]
    image = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    axes.imshow(image if channels == 3 else image[..., 0], cmap="gray", interpolation="nearest")
    axes.set_yticks(
        [height * (place + 0.5) for place in range(len(kept))], [f"{int(file.stem):,}" for file in kept]
    )
    axes.set_xticks([])
    axes.set_ylabel("step")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.title(axes, "The same noise over the training")
    figure.save(drawing, path)
