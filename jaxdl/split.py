"""Cuts a trained model into parts: ``python -m jaxdl.split RUN --stages 3``, or ``--first conv2 --last fc1``.

Each part becomes a StableHLO file that needs neither jaxdl nor the other parts, for any number of images. All are
loaded again, run one behind the other on the test images, and compared with the whole model.

Exit status: 0; 1 where the parts differ from the model; 2 where the run, the data or an option cannot be used.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.config import parse

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.engine.stages import Program
    from jaxdl.inference import Trained
    from jaxdl.methods.split import Part

PROG = "python -m jaxdl.split"
IMAGES = 1000  # test images to compare on
BOUND = 1e-5  # of the largest logit: float32 in programs that XLA puts together otherwise


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """Where to cut."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    stages: int | None = None
    """How many parts of about the same work."""
    cut_at: tuple[str, ...] = ()
    """The layers, or groups of them (layer2), that all parts but the first begin with, instead."""
    first: str | None = None
    """Write one part alone, which begins with this layer. Without it, and with --last: the model's first."""
    last: str | None = None
    """Its last layer. Without it, and with --first: the model's last."""
    out: Path | None = None
    """Folder for the parts. Without it: RUN/parts."""
    data_dir: Path | None = None
    """Where the run's data set lies now, if it was moved."""


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Cuts a trained model into parts."""

    split: SplitOptions = dataclasses.field(default_factory=SplitOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    options = parse(SplitConfig(), argv, PROG).split
    if options.run is None:
        raise ValueError("expected a run's folder; see --help")
    one = options.first is not None or options.last is not None
    if (options.stages is not None) + bool(options.cut_at) + one != 1:
        raise ValueError("say where to cut: --stages N, --cut-at LAYERS, or --first and --last; one of them")
    return split(options.run, options)


def split(run: Path, options: SplitOptions) -> int:
    """Writes the parts and compares them; prints a row for each."""
    from jax import export

    from jaxdl import inference
    from jaxdl.engine import stages
    from jaxdl.engine.host import set_up
    from jaxdl.methods import split as cutting

    set_up()
    trained = inference.load(run)
    program, _, _ = stages.of_model(trained.model, example(trained, 1))
    cuts, wanted = where(program, options)
    (batch,) = export.symbolic_shape("batch")
    parts, of_one_image = cutting.split(trained.model, example(trained, batch), cuts), program.cut(cuts)
    out = options.out or run / "parts"
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"part{number}.stablehlo" for number in range(1, len(parts) + 1)]
    print(f"{'part':<6} {'parameters':>10} {'work':>6}  {'takes':<24} layers")
    total = sum(stage.work for stage in of_one_image)
    for part, stage, path in zip(parts, of_one_image, paths, strict=True):
        write(part, path)
        print(row(part, stage.work / total, path.stem))
    problem = compared(trained, paths, options.data_dir)
    for number, path in enumerate(paths):
        if problem or (wanted is not None and number != wanted):
            path.unlink()
    if problem:
        print(f"error: {problem}; the files are deleted", file=sys.stderr)
        return 1
    files.write_json(out / "parts.json", described(parts, paths, wanted))
    written = paths if wanted is None else [paths[wanted]]
    print(f"together they give the model's logits -> {', '.join(map(str, written))}")
    return 0


def where(program: "Program", options: SplitOptions) -> tuple[Sequence[str], int | None]:
    """The layers to cut at, and which part is wanted alone."""
    if options.stages is not None:
        return program.balanced(options.stages), None
    if options.cut_at:
        return options.cut_at, None
    return program.around(options.first or program.layers[0], options.last or program.layers[-1])


def example(trained: "Trained", batch: Any) -> Any:
    """Shape and type of what the model takes."""
    import jax
    import jax.numpy as jnp

    return jax.ShapeDtypeStruct((batch, *trained.seen.shape), jnp.float32)


def write(part: "Part", path: Path) -> None:
    """The part with its weights: ``jax.export.deserialize(path.read_bytes()).call(*arrays)``."""
    import jax
    from jax import export

    from jaxdl.methods.export.stablehlo import PLATFORMS

    path.write_bytes(export.export(jax.jit(part), platforms=PLATFORMS)(*part.takes).serialize())


def row(part: "Part", share: float, name: str) -> str:
    """A line of the table."""
    takes = " + ".join("x".join(map(str, shape.shape[1:])) for shape in part.takes)
    size = sum(weight.size for weight in part.weights.values())
    names = part.stage.layers
    shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return f"{name:<6} {size:>10,} {share:>6.1%}  {takes:<24} {shown}"


def compared(trained: "Trained", paths: Sequence[Path], data_dir: Path | None) -> str:
    """What is wrong with the parts run one behind the other; empty if nothing is."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import export

    from jaxdl.export import trained_on

    source = trained_on(trained, data_dir)
    stored = {"image": jnp.asarray(source.test["image"][:IMAGES])}
    images = trained.seen.inputs()(jax.random.key(0), stored)["image"]
    expected, carried = np.asarray(jax.jit(trained.model)(images)), [images]
    for path in paths:
        carried = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)(*carried)
    difference = float(np.abs(np.asarray(carried[0]) - expected).max() / np.abs(expected).max())
    apart = f"{difference:.1e} of the largest logit"
    print(f"largest difference on {len(images)} test images of {source.name}: {apart}")
    return "" if difference < BOUND else f"the parts differ from the model by {apart}"


def described(parts: Sequence["Part"], paths: Sequence[Path], wanted: int | None) -> list[dict[str, Any]]:
    """What a program that runs the parts has to know: ``parts.json``."""
    return [
        {
            "file": path.name,
            "layers": part.stage.layers,
            "parameters": list(part.weights),
            "takes": [[*map(str, shape.shape)] for shape in part.takes],
        }
        for number, (part, path) in enumerate(zip(parts, paths, strict=True))
        if wanted in (None, number)
    ]


if __name__ == "__main__":
    sys.exit(main())
