"""Makes a trained run ready for other machines: ``python -m jaxdl.export RUN``.

Every artefact takes uint8 images as they are stored and gives logits. It is loaded again and compared with the
model on the test images; one that differs is deleted.

Exit status: 0; 1 where an artefact differs from the model; 2 where the run, the data or an option cannot be used,
or a format that was asked for cannot express the model.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.config import parse

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.data.sources import Source
    from jaxdl.inference import Trained
    from jaxdl.methods.export.check import Reference
    from jaxdl.methods.export.formats import Format
    from jaxdl.methods.export.program import Program

PROG = "python -m jaxdl.export"
HEADER = f"{'artefact':<16} {'size':>10} {'max difference':>15} {'same class':>11} {'accuracy':>9} {'latency':>11}"


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What to write."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    formats: tuple[str, ...] = ()
    """Any of stablehlo onnx onnx-int8 litert litert-int8 c c-int8. Without it: all whose packages are there."""
    out: Path | None = None
    """Folder for the artefacts. Without it: RUN/export."""
    data_dir: Path | None = None
    """Where the run's data set lies now, if it was moved."""
    test_images: int | None = None
    """How many of the test images to compare on. Without it: all."""
    calibration: int = 500
    """How many training images give the ranges of activations in int8."""
    max_drop: float = 0.5
    """Points of accuracy (per cent) that an int8 artefact may lose."""


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Exports a trained run as StableHLO, ONNX, LiteRT and C."""

    export: ExportOptions = dataclasses.field(default_factory=ExportOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    options = parse(ExportConfig(), argv, PROG).export
    if options.run is None:
        raise ValueError("expected a run's folder; see --help")
    if options.calibration < 1 or (options.test_images or 1) < 1:
        raise ValueError("--calibration and --test-images must be at least 1")
    return export(options.run, options)


def export(run: Path, options: ExportOptions) -> int:
    """Writes, loads and compares; prints a row for each artefact."""
    from jaxdl import inference
    from jaxdl.engine.host import set_up
    from jaxdl.methods.export.formats import FORMATS, chosen
    from jaxdl.methods.export.graph import UnsupportedError
    from jaxdl.methods.export.program import program

    formats = chosen(options.formats)
    set_up()
    trained = inference.load(run)
    source = trained_on(trained, options.data_dir)
    whole = program(trained.model, trained.seen.inputs(), trained.seen.shape, trained.seen.classes)
    out = options.out or run / "export"
    out.mkdir(parents=True, exist_ok=True)
    rows, tests = reference(whole, run, source, options)
    print(f"{trained.config.model.model}: {len(tests.labels)} test images of {source.name} -> {out}")
    show("model", rows["model"])
    calibration, _ = sample(source.train, options.calibration)
    left_out = {name: form.missing() for name, form in FORMATS.items() if not options.formats and form.missing()}
    for name, form in formats.items():
        try:
            rows[name] = make(form, whole, out / form.file, calibration, tests)
        except UnsupportedError as error:
            if options.formats:
                raise
            left_out[name] = str(error)
        else:
            show(name, rows[name])
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}")
    files.write_json(out / "export.json", described(whole, len(tests.labels), rows))
    problems = {name: row["problem"] for name, row in rows.items() if row["problem"]}
    for name, problem in problems.items():
        print(f"error: {name}: {problem}; the file is deleted", file=sys.stderr)
    return 1 if problems else 0


def trained_on(trained: "Trained", data_dir: Path | None) -> "Source":
    """The run's data set.

    Raises:
      ValueError, FileNotFoundError: it is not there, or is another one by now.
    """
    from jaxdl.data import sources

    data = trained.config.data
    source = sources.load(data.dataset or "mnist", data_dir or data.data_dir)
    if (source.image_shape, source.classes) != (trained.seen.shape, trained.seen.classes):
        raise ValueError(
            f"the run was trained on images {trained.seen.shape} of {len(trained.seen.classes)} classes; "
            f"{source.name} has {source.image_shape} of {source.num_classes}"
        )
    return source


def sample(split: Any, count: int | None) -> tuple[Any, Any]:
    """As many images and labels of a split, drawn with a fixed seed and in stored order; None: all."""
    import numpy as np

    total = len(split["label"])
    rows = np.random.default_rng(0).permutation(total)[: count or total]
    rows.sort()
    return np.asarray(split["image"][rows]), np.asarray(split["label"][rows])


def reference(
    whole: "Program", run: Path, source: "Source", options: ExportOptions
) -> tuple[dict[str, dict[str, Any]], "Reference"]:
    """The model's own row, and what artefacts are compared with."""
    from jaxdl.methods.export.check import Reference, logits, measure

    model = whole.compiled()
    images, labels = sample(source.test, options.test_images)
    tests = Reference(images, labels, logits(model, images), options.max_drop / 100)
    size = (run / "weights.safetensors").stat().st_size
    return {"model": {"bytes": size, **dataclasses.asdict(measure(model, tests, int8=False))}}, tests


def make(form: "Format", whole: "Program", path: Path, calibration: Any, tests: "Reference") -> dict[str, Any]:
    """Writes one artefact, loads it and measures it; one that differs is deleted."""
    from jaxdl.methods.export.check import measure

    files.write_atomic(path, lambda temporary: form.write(whole, temporary, calibration))
    loaded = form.load(path)
    measured = dataclasses.asdict(measure(loaded, tests, int8=form.int8))
    row = {"file": path.name, "run": form.run, "bytes": loaded.bytes or path.stat().st_size, **measured}
    if row["problem"]:
        path.unlink()
    return row


def show(name: str, row: dict[str, Any]) -> None:
    """Prints a row of the table, the first with the names of the columns."""
    if name == "model":
        print(HEADER)
    difference = "-" if row["max_difference"] is None else f"{row['max_difference']:.1e}"
    print(
        f"{name:<16} {row['bytes'] / 1000:>7.1f} kB {difference:>15} {row['agreement']:>11.2%} "
        f"{row['accuracy']:>9.2%} {row['latency'] * 1e6:>8.1f} us",
        flush=True,
    )


def described(whole: "Program", count: int, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What ``export.json`` says: how the artefacts are used, and what was measured."""
    height, width, channels = whole.shape
    return {
        "input": {"name": "image", "type": "uint8", "shape": ["batch", height, width, channels]},
        "output": {"name": "logits", "type": "float32", "shape": ["batch", len(whole.classes)]},
        "classes": list(whole.classes),
        "test_images": count,
        "artefacts": {name: row for name, row in rows.items() if not row["problem"]},
    }


if __name__ == "__main__":
    sys.exit(main())
