"""Trains one model for several tasks: ``python -m jaxdl.multitask --tasks label parity slant``.

The classifier's trunk is shared, every further task has a head of its own; each task is also trained alone, with
the same options, and the end is a table of both.
Exit status: as that of ``python -m jaxdl.train``.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxdl.command_line import command_line
from jaxdl.config import TrainConfig, replace
from jaxdl.engine.run_folder import new_path
from jaxdl.train import read_options, train

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source

PROG = "python -m jaxdl.multitask"
# Of each model: the layer whose output the heads read, and the first part of the names of its own head.
TRUNKS = {
    "cnn": ("dropout", "fc2"),
    "resnet18": ("layer4.1", "fc"),
    "resnet34": ("layer4.2", "fc"),
    "resnet50": ("layer4.2", "fc"),
    "vit": ("encoder.ln", "heads"),
}


@dataclasses.dataclass(frozen=True)
class MultitaskOptions:
    """Which tasks, and how they share a step."""

    tasks: tuple[str, ...] = ("label", "parity", "slant")
    """label: the class. parity: whether it is odd. large: whether it is in the upper half. ink: the mean of the
    pixels. slant: by how many degrees the strokes lean."""
    weighting: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    """Weights of the losses. fixed: --weights. uncertainty: learned (Kendall). gradnorm: so that all tasks pull at
    the trunk alike."""
    weights: tuple[float, ...] = ()
    """One a task (fixed). Without it: 1 each."""
    gradnorm_alpha: float = 1.5
    """How much more a task that is behind shall pull (gradnorm)."""
    pcgrad: bool = False
    """Take out of each task's gradient what conflicts with the others' (PCGrad)."""
    alone: bool = True
    """Train each task alone as well."""


@dataclasses.dataclass(frozen=True)
class MultitaskConfig(TrainConfig):
    """All options of ``python -m jaxdl.multitask``: those of training, and of the tasks."""

    multitask: MultitaskOptions = dataclasses.field(default_factory=MultitaskOptions)


@command_line(PROG, stopped="stopped between two runs; --out OUT --resume goes on")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    return multitask(read_options(argv, MultitaskConfig(), PROG))


def multitask(config: MultitaskConfig) -> int:
    """Trains all tasks together, then each alone, and reports."""
    out = config.run.out or new_path(Path("runs"), f"multitask-{config.model.model}")
    if status := train(replace(config, {"out": out}), technique):
        return status
    runs, tasks = {"together": out}, config.multitask.tasks
    if config.multitask.alone and len(tasks) > 1:
        from jaxdl import comparison

        plain = {"weighting": "fixed", "weights": (), "pcgrad": False, "alone": False}
        for task in tasks:
            runs[f"{task} alone"] = out / f"alone-{task}"
            if not config.run.quiet:
                print(f"{task} alone -> {runs[f'{task} alone']}", flush=True)
            comparison.completed(replace(config, plain | {"tasks": (task,)}), technique, runs[f"{task} alone"])
    from jaxdl.multitask import report as multitask_report
    from jaxdl.restored import restore

    found = {name: restore(run, MultitaskConfig(), technique, config.data.data_dir) for name, run in runs.items()}
    print("\n".join(multitask_report.report(out, found)))
    return 0


def technique(config: MultitaskConfig, source: "Source") -> "Technique":
    """What the tasks change of a plain training."""
    import jax
    from flax import nnx

    from jaxdl import build
    from jaxdl.methods.features import output_shape
    from jaxdl.methods.multitask import model as tasks_model
    from jaxdl.methods.multitask.tasks import with_targets

    options = config.multitask
    prepared, tasks = with_targets(source, options.tasks)
    _check_augmentation(config.data.augment, tasks)
    how = tasks_model.Balance(options.weighting, options.weights, options.pcgrad, options.gradnorm_alpha)
    how.check(tasks)
    layer, head = TRUNKS.get(config.model.model, ("dropout", f"fc{(config.model.depth or 1) + 1}"))
    key = jax.random.key(config.run.seed)

    def with_heads(net: nnx.Module) -> nnx.Module:
        features = output_shape(net, layer, source.image_shape)[-1]
        return tasks_model.MultiTask(net, layer, head, features, tasks, rngs=nnx.Rngs(params=key))

    return build.Technique(
        data=lambda _: prepared,
        model=with_heads,
        objective=lambda plain: tasks_model.multitask(plain, tasks, how),
        deploy=tasks_model.classifier_of,
    )


def _check_augmentation(augment: str, tasks: Sequence[Any]) -> None:
    """Raises ValueError for images that are changed while their targets are not."""
    numbers = [task.name for task in tasks if task.kind == "number"]
    if augment and numbers:
        raise ValueError(
            f"--augment {augment} would change the {' and '.join(numbers)} of an image; leave one out"
        )
    if "mixup" in augment and any(task.kind == "binary" for task in tasks):
        raise ValueError("--augment mixup mixes labels, and only those; leave it or the other tasks out")


if __name__ == "__main__":
    sys.exit(main())
