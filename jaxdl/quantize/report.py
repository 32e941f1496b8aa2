"""What int8 is worth: accuracy, size and time of a run before and after, as a table, a file and a figure."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.data.sources import Source
from jaxdl.engine import figure, table, timing
from jaxdl.inference import Trained
from jaxdl.methods.quantize import convert
from jaxdl.quantize import codes
from jaxdl.quantize.options import QuantizeOptions

BATCHES = (1, 500)
COLOURS = {"float32": "#7d8894", "int8": "#0b62a4"}

Predict = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) uint8 -> logits or probabilities (N, classes)
Row = dict[str, Any]


def report(out: Path, before: Trained, source: Source) -> None:
    """Measures the run and its form in ``out``; prints, writes ``quantize.json`` and ``quantize.png``."""
    options = codes.options_of(out)
    after, plain = codes.load(out), (options.run or Path()) / "weights.safetensors"
    names = convert.quantized_layers(after.model)
    model = before.config.model.model
    print(f"{model}: {len(names)} layers in int8 ({shortened(list(names))}), {described(options)}")
    test = {name: np.asarray(rows[:]) for name, rows in source.test.items()}
    forms = [("XLA", "float32", plain, before.predict), ("XLA", "int8", out / codes.FILE, after.predict)]
    forms += onnx_forms(out, before, after) if options.onnx else []
    rows = measured(forms, test)
    print(printed(rows))
    print(verdict(rows))
    known = {"method": described(options), "layers": list(names), "test_images": len(test["label"]), "rows": rows}
    files.write_json(out / "quantize.json", known)
    draw(rows, f"{model}: {described(options)}", out / "quantize.png")


def compare(folders: Sequence[Path], out: Path) -> int:
    """Prints and writes the means over several folders, such as of one model with several seeds.

    Raises:
      FileNotFoundError, ValueError: a folder without a report, or reports of other forms or methods.
    """
    known = [read(folder) for folder in folders]
    kinds = {(report["method"], *(row["runtime"] for row in report["rows"])) for report in known}
    if len(kinds) > 1:
        raise ValueError(f"expected reports of one method and the same runtimes; got {sorted(kinds)}")
    rows = [mean_row(same) for same in zip(*(report["rows"] for report in known), strict=True)]
    print(f"{known[0]['method']}, mean of {len(folders)}")
    print(printed(rows))
    print(verdict(rows))
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "quantize-mean.json", {"of": [str(folder) for folder in folders], "rows": rows})
    draw(rows, f"{known[0]['method']}, mean of {len(folders)}", out / "quantize-mean.png")
    return 0


def onnx_forms(out: Path, before: Trained, after: Trained) -> list[tuple[str, str, Path, Predict]]:
    """The two models as ONNX files in ``out``, run by onnxruntime; none, with a line, where that cannot be."""
    try:
        import onnxruntime

        from jaxdl.methods.quantize import qdq

        if after.seen.fit:
            raise ValueError("they would need a step that brings images to the model's shape")
        forms = []
        for name, trained in (("float32", before), ("int8", after)):
            path, seen = out / f"{name}.onnx", trained.seen
            qdq.save(path, trained.model, seen.shape, seen.mean, seen.std)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            forms.append(("onnxruntime", name, path, logits_of(session)))
    except ModuleNotFoundError as error:
        print(f"no ONNX files: the package {error.name} is not installed (pip install onnx onnxruntime)")
        return []
    except ValueError as error:
        print(f"no ONNX files: {error}")
        return []
    return forms


def logits_of(session: Any) -> Predict:
    """The predictions of a session of onnxruntime."""
    return lambda images: session.run(None, {"image": images})[0]


def measured(forms: Sequence[tuple[str, str, Path, Predict]], test: dict[str, np.ndarray]) -> list[Row]:
    """Accuracy, size and time of each form; agreement is with the classes that the first predicts."""
    rows, reference = [], None
    for runtime, form, path, predict in forms:
        batches = [predict(batch) for batch in in_batches(test["image"], BATCHES[-1])]
        classes = np.concatenate(batches).argmax(-1)
        reference = classes if reference is None else reference
        times = {f"us_{size}": 1e6 * timing.seconds(predict, test["image"], size) / size for size in BATCHES}
        rows.append(
            {
                "runtime": runtime,
                "form": form,
                "accuracy": float((classes == test["label"]).mean()),
                "agreement": float((classes == reference).mean()),
                "bytes": path.stat().st_size,
                **times,
            }
        )
    return rows


def in_batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The images in stored order, ``size`` at a time."""
    return (images[first : first + size] for first in range(0, len(images), size))


def printed(rows: Sequence[Row]) -> str:
    """The rows as text."""
    titles = ["", "accuracy", "same class", "size", "", *(f"us/image, {size} at once" for size in BATCHES)]
    lines = []
    for row in rows:
        spread = f" ± {100 * row['spread']:.2f}" if "spread" in row else ""
        accuracy, agreement = f"{row['accuracy']:.2%}{spread}", f"{row['agreement']:.2%}"
        size, share = f"{row['bytes'] / 1000:.1f} kB", f"{row['bytes'] / rows[0]['bytes']:.1%}"
        times = [f"{row[f'us_{count}']:.2f}" for count in BATCHES]
        lines.append([f"{row['form']}, {row['runtime']}", accuracy, agreement, size, share, *times])
    return "\n".join(table.lines(titles, lines))


def verdict(rows: Sequence[Row]) -> str:
    """What the rows say: int8 against float32, each in its fastest runtime."""
    plain, int8 = ([row for row in rows if row["form"] == form] for form in ("float32", "int8"))
    points, share = 100 * (int8[0]["accuracy"] - plain[0]["accuracy"]), int8[0]["bytes"] / plain[0]["bytes"]
    speeds = []
    for size in BATCHES:
        before, after = (min(part, key=lambda row: row[f"us_{size}"]) for part in (plain, int8))
        ratio = before[f"us_{size}"] / after[f"us_{size}"]
        runtimes = f"{after['runtime']} against {before['runtime']}"
        speeds.append(f"{ratio:.2f} times as fast ({size} at once; {runtimes})")
    return f"int8: {points:+.2f} points at {share:.1%} of the size, {', '.join(speeds)}"


def described(options: QuantizeOptions) -> str:
    """The method in a few words."""
    parts = [options.method, "per channel" if options.per_channel else "per tensor"]
    if options.method != "dynamic":
        kept = f" {options.percentile:g}" if options.calibration == "percentile" else ""
        parts.append(f"{options.calibration}{kept} of {options.calibration_images} images")
    return ", ".join(parts)


def shortened(names: Sequence[str]) -> str:
    """A few of the names."""
    return ", ".join(names if len(names) <= 6 else [*names[:2], "...", names[-1]])


def mean_row(same: Sequence[Row]) -> Row:
    """The means of one form's rows, and the standard deviation of their accuracy."""
    numbers = [name for name, value in same[0].items() if not isinstance(value, str)]
    means = {name: statistics.mean(row[name] for row in same) for name in numbers}
    spread = statistics.stdev(row["accuracy"] for row in same) if len(same) > 1 else 0.0
    return same[0] | means | {"spread": spread}


def read(folder: Path) -> dict[str, Any]:
    """The report in a folder.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    path = folder / "quantize.json"
    return files.read_json(path, f"no report at {path}: {folder} was not written by python -m jaxdl.quantize")


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Accuracy, size and times of the rows side by side, as a PNG."""
    drawing = figure.new(11, 1.6 + 0.4 * len(rows))
    left, *others = drawing.subplots(1, 2 + len(BATCHES), sharey=True)
    places, colours = range(len(rows)), [COLOURS[row["form"]] for row in rows]
    accuracies = [100 * row["accuracy"] for row in rows]
    left.scatter(accuracies, places, 60, colours, zorder=2)  # differences, which bars from zero would hide
    for place, value in zip(places, accuracies, strict=True):
        left.annotate(f"{value:.2f}%", (value, place), (8, 0), textcoords="offset points", va="center")
    low, high = min(accuracies), max(accuracies)
    room = max(high - low, 0.5)
    left.set_xlim(low - 0.5 * room, high + 1.3 * room)
    left.locator_params(axis="x", nbins=3)
    figure.frame(left, "test accuracy, %")
    panels = [("size, kB", [row["bytes"] / 1000 for row in rows])]
    panels += [(f"µs an image, {size} at once", [row[f"us_{size}"] for row in rows]) for size in BATCHES]
    for axes, (label, values) in zip(others, panels, strict=True):
        bars = axes.barh(places, values, 0.65, color=colours)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, color=figure.INK)
        axes.set_xlim(0, 1.3 * max(values))
        figure.frame(axes, label)
    left.set_yticks(places, [f"{row['form']}, {row['runtime']}" for row in rows])
    left.invert_yaxis()
    figure.title(left, title)
    figure.save(drawing, path)
