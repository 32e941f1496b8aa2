"""What compression cost and gained: a table, the frontier of size and accuracy as a picture, JSON."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.compress.options import PROG, CompressConfig
from jaxdl.compress.search import PACKED, Tried
from jaxdl.data.sources import Source
from jaxdl.engine import figure, table
from jaxdl.engine.metrics import spread
from jaxdl.inference import Trained, load
from jaxdl.methods.compose import Composition

TITLES = ("", "accuracy", "bytes", "of float32")
COLOURS = {"zeros": "#7d8894", "units": "#2b8a3e", "rank": "#d98200", "units, rank": "#6a3d9a", "soft": "#a50f15"}
FRONTIER = "#0b62a4"
Report = dict[str, Any]


def report(
    config: CompressConfig,
    trained: Trained,
    source: Source,
    chosen: Composition,
    tried: Sequence[Tried],
    target: int,
    out: Path,
) -> None:
    """Reads what was written, measures it; prints, and writes ``compress.json`` and ``compress.png``.

    Raises:
      ValueError: the file is larger than the target, as one of a composition that was given can be.
    """
    path, before = out / PACKED, (config.compress.run or Path()) / "weights.safetensors"
    known: Report = {
        "composition": str(chosen),
        "target": target,
        "dense": {"accuracy": trained.evaluate(source)["accuracy"], "bytes": before.stat().st_size},
        "compressed": {"accuracy": load(path).evaluate(source)["accuracy"], "bytes": path.stat().st_size},
        "tried": [dataclasses.asdict(one) for one in tried],
    }
    files.write_json(out / "compress.json", known)
    show({"float32": [known["dense"]], str(chosen): [known["compressed"]]})
    print(f"{path}, read again: {verdict([known])}")
    if tried:
        draw(tried, target, known["dense"]["bytes"], out / "compress.png")
    if known["compressed"]["bytes"] > target:
        raise ValueError(f"{path} has {known['compressed']['bytes']} bytes; --target-size is {target}")


def compare(folders: Sequence[Path], out: Path | None) -> int:
    """Prints the means over folders whose runs differ in their seeds, and writes them to ``out``.

    Raises:
      FileNotFoundError, ValueError: a folder without a report, or no folder to write to.
    """
    if out is None:
        raise ValueError("--compare writes compress.json; say where: --out FOLDER")
    reports = [read(folder) for folder in folders]
    rows = {
        "float32": [known["dense"] for known in reports],
        "compressed": [known["compressed"] for known in reports],
    }
    for folder, known in zip(folders, reports, strict=True):
        print(f"{folder}: {known['composition']}")
    show(rows)
    print(verdict(reports))
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "compress.json", {"of": [str(folder) for folder in folders], "rows": rows})
    return 0


def show(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Prints the means of each row, and the standard deviation of the accuracy where there are several."""
    lines, whole = [], statistics.mean(row["bytes"] for row in next(iter(rows.values())))
    for name, members in rows.items():
        found = spread([member["accuracy"] for member in members])
        size = statistics.mean(member["bytes"] for member in members)
        accuracy = f"{found.mean:.2%}" + (f" ± {100 * found.std:.2f}" if found.n > 1 else "")
        lines.append([name, accuracy, f"{size:.0f}", f"{size / whole:.2%}"])
    print("\n".join(table.lines(TITLES, lines)))


def verdict(reports: Sequence[Report]) -> str:
    """What the reports say, in one line."""
    points = spread([100 * (known["compressed"]["accuracy"] - known["dense"]["accuracy"]) for known in reports])
    share = max(known["compressed"]["bytes"] / known["dense"]["bytes"] for known in reports)
    several = f", mean of {points.n}" if points.n > 1 else ""
    return f"{points.mean:+.2f} points{several}, at {share:.2%} of the size"


def read(folder: Path) -> Report:
    """The report in a folder.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    path = folder / "compress.json"
    return files.read_json(path, f"no report at {path}: expected a folder that {PROG} has written")


def draw(tried: Sequence[Tried], target: int, whole: int, path: Path) -> None:
    """Accuracy on held-out images against size, as a PNG: all that were tried, and the frontier of the best.

    Args:
      tried: the compositions.
      target: bytes.
      whole: bytes in float32, of which sizes are shares.
      path: the file, written atomically.
    """
    drawing = figure.new(8, 4.5)
    axes = drawing.subplots()
    for kind, colour in COLOURS.items():
        points = np.array([[100 * one.bytes / whole, 100 * one.accuracy] for one in tried if kind_of(one) == kind])
        if len(points):
            axes.plot(*points.T, "o", color=colour, ms=5, label=kind, alpha=0.8)
    edge = np.array([[100 * one.bytes / whole, 100 * one.accuracy] for one in frontier(tried)])
    axes.step(*edge.T, where="post", color=FRONTIER, lw=1.4, label="frontier")
    axes.axvline(
        100 * target / whole, color=figure.INK, lw=1, ls=":", label=f"target {target / whole:.3g} of float32"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}%")
    axes.xaxis.set_minor_formatter("{x:g}%")
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, "size of the file, of that in float32 (logarithmic)")
    figure.title(axes, "Accuracy on held-out images, after a short training")
    axes.legend(frameon=False, loc="lower right")
    figure.save(drawing, path)


def frontier(tried: Sequence[Tried]) -> list[Tried]:
    """Those to which no other is better and at most as large, by size."""
    found: list[Tried] = []
    for one in sorted(tried, key=lambda one: (one.bytes, -one.accuracy)):
        if not found or one.accuracy > found[-1].accuracy:
            found.append(one)
    return found


def kind_of(one: Tried) -> str:
    """What a composition does beside int8 and zeros."""
    names = [part.partition(":")[0] for part in one.composition.split(",")]
    if "soft" in names:
        return "soft"
    return ", ".join(name for name in ("units", "rank") if name in names) or "zeros"
