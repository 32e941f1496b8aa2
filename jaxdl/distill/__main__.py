"""Trains a student on what a teacher says: ``python -m jaxdl.distill --teacher RUN --hidden 16``.

The same student is trained without the teacher as well, and the end is a table of both beside the teacher.
A run of the student's own kind as teacher is self-distillation; ``--generations`` goes on with it.
Exit status: as that of ``python -m jaxdl.train``.
"""

import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdl.command_line import command_line
from jaxdl.config import TrainConfig, replace
from jaxdl.engine.run_folder import new_path, read_config
from jaxdl.train import read_options, train

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source
    from jaxdl.inference import Trained

PROG = "python -m jaxdl.distill"


@dataclasses.dataclass(frozen=True)
class DistillOptions:
    """Whom the student learns from, and how."""

    teacher: tuple[Path, ...] = ()
    """The folder of a run, or of several, whose logits are averaged; or a .safetensors file of torch's weights."""
    temperature: float = 4.0
    """Divides the logits of teacher and student, so that the less likely classes count as well."""
    soft_weight: float = 0.9
    """Weight of what the teacher says (Hinton's alpha), times the squared temperature; labels have the rest."""
    hint: tuple[str, str] | None = None
    """A layer of the student and one of the teacher, whose output it learns to give: fc1 fc1 (FitNets)."""
    hint_weight: float = 1.0
    """Weight of the hint."""
    generations: int = 1
    """Students one after the other, each with its own seed and taught by the one before (born-again networks)."""
    images: int | None = None
    """Training images that the students see, of each class as many, over and over; soft targets keep a student
    from learning them by heart. Without it: all."""
    alone: bool = True
    """Train the same student without a teacher as well."""
    teacher_mean: tuple[float, ...] = ()
    """What the images of a teacher from a file were normalized with, per channel: such as 0.1307."""
    teacher_std: tuple[float, ...] = ()
    """The same for their deviation: such as 0.3081."""


@dataclasses.dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """All options of ``python -m jaxdl.distill``: those of the student's training, and of the teaching."""

    distill: DistillOptions = dataclasses.field(default_factory=DistillOptions)


@command_line(PROG, stopped="stopped between two runs; --out OUT --resume goes on")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    return distill(read_options(argv, DistillConfig(), PROG))


def distill(config: DistillConfig) -> int:
    """Trains the students one after the other, then the one without a teacher, and reports."""
    options = config.distill
    if not options.teacher:
        raise ValueError("expected a teacher: --teacher RUN; see --help")
    if options.generations < 1:
        raise ValueError(f"--generations must be at least 1; got {options.generations}")
    out = config.run.out or new_path(Path("runs"), f"distilled-{config.model.model}")
    runs = {"student": out} | {
        f"generation {n}": out / f"generation-{n}" for n in range(2, options.generations + 1)
    }
    teacher = options.teacher
    for place, (name, run) in enumerate(runs.items()):
        # The first folder stands for the whole, and has its options.
        own = {"generations": 1, "alone": False} if place else {}
        own |= {"out": run, "seed": config.run.seed + place, "teacher": teacher}
        taught = f"{name}, taught by {' and '.join(map(str, teacher))}"
        if status := _train(taught, replace(config, own), out):
            return status
        teacher = (run,)
    if options.alone:
        runs["student alone"] = out / "alone"
        own = {"out": runs["student alone"], "teacher": (), "hint": None, "generations": 1, "alone": False}
        if status := _train("student alone", replace(config, own), out):
            return status
    return _report(config, out, runs)


def _train(what: str, config: DistillConfig, whole: Path) -> int:
    if not config.run.quiet:
        print(f"{what}:")
    status = train(config, technique)
    if status > 128 and config.run.out != whole:
        print(f"with --out {whole} --resume the runs that are still to come follow", file=sys.stderr)
    return status


def _report(config: DistillConfig, out: Path, runs: dict[str, Path]) -> int:
    from jaxdl.data import sources
    from jaxdl.distill import report as distill_report

    source = sources.load(read_config(out)["options"]["dataset"], config.data.data_dir)
    rows = distill_report.report(source, out, load_teachers(config.distill, source), runs)
    print("\n".join([*distill_report.shown(rows), f"{out / 'distill.json'}, {out / 'distill.png'}"]))
    return 0


def load_teachers(options: DistillOptions, source: "Source") -> "list[Trained]":
    """The models that teach.

    Raises:
      FileNotFoundError, ValueError: as `jaxdl.teachers.load`.
    """
    from jaxdl import teachers

    return [
        teachers.load(Path(path), source, options.teacher_mean, options.teacher_std) for path in options.teacher
    ]


def technique(config: DistillConfig, source: "Source") -> "Technique":
    """What the teaching changes of the student's training; without a teacher, only the images may be fewer."""
    import jax

    from jaxdl import build, teachers
    from jaxdl.data.loader import RESIDENT_LIMIT
    from jaxdl.methods import distill
    from jaxdl.pictures import Pictures

    options, shown = config.distill, _shown_images(config, source)
    if not options.teacher:
        return build.Technique(data=lambda _: shown)
    trained = load_teachers(options, source)
    own_layer, layer = options.hint or (None, None)
    ask = distill.teacher([teachers.stored_images(one) for one in trained], layer)
    image = jax.ShapeDtypeStruct((1, *source.image_shape), "uint8")
    said = jax.eval_shape(ask, {"image": image})
    changes: dict[str, Any] = {"data": lambda _: shown}
    if own_layer:
        shape, key = said[distill.HINT].shape[1:], jax.random.key(config.run.seed)
        changes["model"] = lambda net: distill.hinted(net, own_layer, source.image_shape, shape, key)
        changes["deploy"] = distill.student_of
    size = len(shown.train["label"]) * sum(answer.size * 4 for answer in said.values())
    if not config.data.augment and size <= RESIDENT_LIMIT:
        changes["data"] = lambda _: distill.with_answers(ask, shown)
    else:
        seen = Pictures.of(source, config.data)
        again = distill.teacher([teachers.prepared_images(one, seen) for one in trained], layer)
        changes["inputs"] = functools.partial(distill.answering, again)
    loss = functools.partial(
        distill.distillation,
        temperature=options.temperature,
        soft_weight=options.soft_weight,
        hint_weight=options.hint_weight if own_layer else 0.0,
    )
    return build.Technique(objective=loss, **changes)


def _shown_images(config: DistillConfig, source: "Source") -> "Source":
    """The data set with the training images that the students see."""
    from jaxdl.data import subset

    if config.distill.images is None:
        return source
    return subset.repeated(
        subset.labelled(source, config.distill.images, config.run.seed), len(source.train["label"])
    )


if __name__ == "__main__":
    sys.exit(main())
