"""From options to a run: its data, model, optimizer, devices and programs."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxdl import inference, parts
from jaxdl.config import OptimizerOptions, TrainConfig
from jaxdl.data import sources, subset
from jaxdl.data.loader import Loader, stored_order
from jaxdl.engine import parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.engine.state import TrainState
from jaxdl.inference import Deploy
from jaxdl.parts import DTYPES, same
from jaxdl.pictures import Pictures
from jaxdl.typing import Array, Batch, LossFn, Metrics

CHUNK_WORK = {"cpu": 40e9, "gpu": 4e12}  # floating-point operations in a chunk: some tenths of a second
FEW = 8  # steps; where so few are a chunk, what starting a program costs is not seen
STREAMED_BYTES = 2**27  # of batches on their way to the device


@dataclasses.dataclass(frozen=True)
class Technique:
    """What a technique changes of a plain run. Each function takes the plain part and gives what is used instead.

    Attributes:
      data: the data set.
      seen: what the model knows of its images: those of another run, into whose form they are brought.
      model: the model with its initial weights: gives it those of another run, a new head, more variables.
      objective: the loss of training; evaluation stays plain classification.
      tx: the optimizer: frozen parameters, parameter groups, masks.
      inputs: what makes stored images the model's input in training, augmentation included.
      deploy: ``(params, stats)`` of the run -> those of the plain model, which is evaluated and saved.
    """

    data: Callable[[sources.Source], sources.Source] = same
    seen: Callable[[Pictures], Pictures] = same
    model: Callable[[nnx.Module], nnx.Module] = same
    objective: Callable[[LossFn], LossFn] = same
    tx: Callable[[optax.GradientTransformation], optax.GradientTransformation] = same
    inputs: Callable[[step.Prepare], step.Prepare] = same
    deploy: Deploy = same


PLAIN = Technique()


@dataclasses.dataclass(frozen=True)
class Job:
    """A run, put together.

    Attributes:
      seen: what the model knows of the images.
      loader, tests: the batches of the two splits.
      validation: those of the images that are held out, if any.
      steps: how many the run takes.
      chunk_steps: how many make one program.
      model: the plain one; gives names and layouts of what `deploy` returns.
      deploy: ``(params, stats)`` of the state -> those of ``model``.
      plan: the devices, and how batches are split over them.
      state: where the run starts.
      train_step, eval_step, predict_step, gradients: see `jaxdl.engine.step`.
    """

    seen: Pictures
    loader: Loader
    tests: Loader
    validation: Loader | None
    steps: int
    chunk_steps: int
    model: nnx.Module
    deploy: Deploy
    plan: parallel.Plan
    state: TrainState
    train_step: step.Step
    eval_step: Callable[[TrainState, Batch], Metrics]
    predict_step: Callable[[TrainState, Batch], Array]
    gradients: step.Gradient

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        return self.plan.mesh


def job(config: TrainConfig, source: sources.Source, technique: Technique = PLAIN) -> Job:
    """Puts a run together.

    Args:
      config: its options.
      source: its data, as changed by the technique.
      technique: what else is changed.

    Raises:
      ValueError: options that do not fit each other, the data or the devices.
    """
    run, validation = config.run, None
    if run.early_stop is not None:
        source, held_out = subset.hold_out(source, run.validation, run.seed)
        validation = stored_order(held_out)
    seen = technique.seen(Pictures.of(source, config.data))
    loader = train_loader(config, source)
    steps = run.steps if run.steps is not None else run.epochs * loader.steps_per_epoch
    if steps < 1:
        raise ValueError(f"expected at least one step, got --epochs {run.epochs} --steps {run.steps}")
    if run.early_stop is not None and run.early_stop < 1:
        raise ValueError(f"--early-stop expects a number of epochs, at least 1; got {run.early_stop}")
    tx = technique.tx(parts.optimizer(config.optim, loader.steps_per_epoch, steps))
    plan = parallel.make_plan(config.scale)
    with plan.birthplace():
        net, graph, first = start(config, seen, tx, technique)
    plan.check(loader, first)
    loss_fn = technique.objective(objective(config.optim, source))
    dtype, inputs = DTYPES[run.precision], technique.inputs(seen.inputs(config.data.augment))

    def gradients(graph: nnx.GraphDef, differentiate: step.Differentiate) -> step.Gradient:
        return step.gradients(graph, loss_fn, inputs, dtype, differentiate)

    gradient = plan.gradient(gradients, graph, first)
    if config.scale.stages > 1:  # a model that cannot be cut so is told now, not with the first step
        jax.eval_shape(gradient, first, _example(loader))
    eval_step, predict_step = inference.steps(net, seen, dtype, technique.deploy)

    return Job(
        seen=seen,
        loader=loader,
        tests=stored_order(source.test),
        validation=validation,
        steps=steps,
        chunk_steps=run.chunk_steps or _chunk_steps(eval_step, first, loader, plan.mesh),
        model=net,
        deploy=technique.deploy,
        plan=plan,
        state=plan.place(first),
        train_step=step.update_step(gradient, tx),
        eval_step=eval_step,
        predict_step=predict_step,
        gradients=gradients(graph, step.of_whole),
    )


def start(
    config: TrainConfig, seen: Pictures, tx: optax.GradientTransformation, technique: Technique = PLAIN
) -> tuple[nnx.Module, nnx.GraphDef, TrainState]:
    """The plain model with its initial weights, the structure of the trained one, the state of the first step."""
    init_key, run_key = jax.random.split(jax.random.key(config.run.seed))
    net = parts.model(config.model, seen, init_key)
    view = nnx.view(technique.model(net), deterministic=False, use_running_average=False, raise_if_not_found=False)
    return net, *state.create(view, tx, run_key)


def objective(options: OptimizerOptions, source: sources.Source) -> LossFn:
    """The loss that the options ask for on this data."""
    weight = None
    if options.class_weight == "balanced":
        weight = jnp.asarray(balanced_weights(source.train["label"], source.num_classes), jnp.float32)
    return classification(
        class_weight=weight, label_smoothing=options.label_smoothing, l1=options.l1, l2=options.l2
    )


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """``examples / (classes * examples of the class)``, (classes,); 1 for a class without any.

    Source: scikit-learn's ``compute_class_weight("balanced")``, King and Zeng 2001.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts > 0, len(labels) / (classes * np.maximum(counts, 1)), 1.0)


def train_loader(config: TrainConfig, source: sources.Source) -> Loader:
    """The training batches."""
    data = config.data
    return Loader(
        source.train,
        data.batch_size,
        seed=config.run.seed,
        shuffle=data.shuffle,
        drop_last=data.drop_last,
        resident=None if data.placement == "auto" else data.placement == "resident",
    )


def _chunk_steps(eval_step: Any, start: TrainState, loader: Loader, mesh: Mesh) -> int:
    """Enough steps to hide what starting a program costs, few enough to stop and to show progress in between.

    Steps so long that few would make a chunk are started one by one: each length of a chunk, and at the end of an
    epoch there is a shorter one, is a program to compile, which takes long and much memory for a deep model.
    A function of the model and the data alone, never of a clock: see `Loader.chunks`.
    """
    forward = jax.jit(eval_step).lower(start, _example(loader)).cost_analysis()
    work = 3 * max(float((forward or {}).get("flops", 0)), 1.0)  # a backward pass costs two forward ones
    steps = CHUNK_WORK.get(mesh.devices.flat[0].platform, CHUNK_WORK["gpu"]) / work
    if steps < FEW:
        return 1
    if not loader.resident:
        steps = min(steps, STREAMED_BYTES / loader.batch_bytes)
    return int(min(max(steps, 1), max(loader.full_batches, 1)))


def _example(loader: Loader) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a full batch."""
    return {
        name: jax.ShapeDtypeStruct((loader.batch_size, *rows.shape[1:]), rows.dtype)
        for name, rows in loader.split.items()
    }
