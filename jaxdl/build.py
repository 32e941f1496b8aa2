"""From options to parts: the data, the model, the optimizer and the programs of a run."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxdl.config import DataOptions, ModelOptions, OptimizerOptions, TrainConfig, replace, to_dict
from jaxdl.data import resize, sources, subset, transforms
from jaxdl.data.loader import Loader
from jaxdl.engine import metrics as averages
from jaxdl.engine import packed, parallel, state, step, weights
from jaxdl.engine.objective import classification
from jaxdl.engine.run_folder import read_config
from jaxdl.engine.state import TrainState
from jaxdl.models import MODELS
from jaxdl.optim import schedules
from jaxdl.optim.optimizers import OPTIMIZERS
from jaxdl.optim.transforms import accumulate, clip_by_norm, clip_by_value
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree, Scalar

EVAL_BATCH = 500
CHUNK_WORK = {"cpu": 40e9, "gpu": 4e12}  # floating-point operations in a chunk: some tenths of a second
STREAMED_BYTES = 2**27  # of batches on their way to the device
Deploy = Callable[[tuple[PyTree, PyTree]], tuple[PyTree, PyTree]]
DTYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}
# Which options an optimizer or a model takes; another that is given is a mistake.
TAKES = {
    "sgd": ("momentum", "dampening", "nesterov", "weight_decay"),
    "adam": ("betas", "weight_decay"),
    "adamw": ("betas", "weight_decay"),
    "rmsprop": ("alpha", "momentum", "centered", "weight_decay"),
    "adagrad": ("weight_decay",),
    "net": ("hidden", "depth", "activation", "dropout"),
    "cnn": ("channels", "hidden", "activation", "dropout"),
    "resnet18": ("stem",),
    "resnet34": ("stem",),
    "resnet50": ("stem",),
    "vit": ("patch", "hidden", "depth", "heads", "dropout"),
}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a model has to know of the images it is trained on; kept with the run.

    Attributes:
      shape: (H, W, C).
      classes: their names.
      mean, std: per channel, of images in [0, 1]; empty where images are not normalized.
      fit, margin: how images of another shape are brought to this one, see `jaxdl.data.resize`; empty: not.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fit: str = ""
    margin: int = 0

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Pictures":
        """What ``config.json`` says under the name images."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})  # pyright: ignore[reportArgumentType]

    def inputs(self, augment: str = "", numbers: Sequence[Scalar] | None = None) -> step.Prepare:
        """What makes uint8 images a model's input: ``(key, batch) -> batch``, float32.

        ``numbers`` take the place of those in ``augment``, see `jaxdl.data.transforms.parse`.
        They are scaled to [0, 1], brought to the model's shape, augmented (which fills with black), and normalized
        where the run does so.
        """
        parts: list[transforms.Transform] = [transforms.to_float]
        if self.fit:
            parts.append(resize.fit(self.shape, self.fit, self.margin))
        if augment:
            parts.append(transforms.parse(augment, len(self.classes), numbers))
        if self.mean:
            parts.append(transforms.normalize(self.mean, self.std))
        return transforms.compose(*parts)


def pictures(source: sources.Source, options: DataOptions) -> Pictures:
    """What there is to know of a data set."""
    mean, std = source.channel_stats() if options.normalize else ((), ())
    return Pictures(source.image_shape, source.classes, mean, std)


def model(options: ModelOptions, seen: Pictures, key: Array) -> nnx.Module:
    """The model with initial weights drawn from ``key``.

    Raises:
      ValueError: an option that the model has no use for, or a value outside its range.
    """
    arguments = _taken(options.model, options)
    for name, value in arguments.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, int) and number < 1 for number in numbers):
            raise ValueError(f"--{name} must be at least 1; got {value}")
    return MODELS[options.model](seen.shape, len(seen.classes), **arguments, rngs=nnx.Rngs(params=key))


def _same(part: Any) -> Any:
    return part


def optimizer(
    options: OptimizerOptions, steps_per_epoch: int, steps: int, change: Callable[[Any], Any] = _same
) -> optax.GradientTransformation:
    """Clipping, then the optimizer under its schedule, once every ``--accumulate`` batches.

    Args:
      options: of the optimizer.
      steps_per_epoch, steps: of the run.
      change: the learning rate, a function of the number of updates -> the one that is used instead.

    Raises:
      ValueError: an option that the optimizer has no use for, or a value outside its range.
    """
    every = options.accumulate
    updates_per_epoch, updates = max(steps_per_epoch // every, 1), max(steps // every, 1)
    arguments = _taken(options.optimizer, options)
    tx = OPTIMIZERS[options.optimizer](change(schedule(options, updates_per_epoch, updates)), **arguments)
    if options.clip_value is not None:
        tx = optax.chain(clip_by_value(options.clip_value), tx)
    if options.clip_norm is not None:
        tx = optax.chain(clip_by_norm(options.clip_norm), tx)
    return accumulate(tx, every) if every > 1 else tx


def _taken(name: str, options: ModelOptions | OptimizerOptions) -> dict[str, Any]:
    """What the model or optimizer of this name takes of the options, as far as they have a value.

    Raises:
      ValueError: an option is given that only others take.
    """
    takes, known = TAKES[name], {option for names in TAKES.values() for option in names}
    for field in dataclasses.fields(options):
        if field.name in known - set(takes) and getattr(options, field.name) != field.default:
            raise ValueError(f"--{field.name.replace('_', '-')} has no meaning for {name}")
    return {option: getattr(options, option) for option in takes if getattr(options, option) is not None}


def schedule(options: OptimizerOptions, updates_per_epoch: int, updates: int) -> Any:
    """The learning rate: a number, or a function of the number of updates."""
    default_lr = inspect.signature(OPTIMIZERS[options.optimizer]).parameters["lr"].default
    lr = options.lr if options.lr is not None else 0.01 if options.optimizer == "sgd" else default_lr
    warm = round(options.warmup_epochs * updates_per_epoch)
    epochs = functools.partial(schedules.per_epoch, steps_per_epoch=updates_per_epoch)
    rate = {
        "constant": lambda: schedules.constant(lr),
        "step": lambda: epochs(schedules.step_lr(lr, options.step_size, options.gamma)),
        "multi_step": lambda: epochs(schedules.multi_step_lr(lr, options.milestones, options.gamma)),
        "exponential": lambda: epochs(schedules.exponential_lr(lr, options.gamma)),
        "cosine": lambda: schedules.cosine_annealing_lr(lr, max(updates - warm, 1)),
        "one_cycle": lambda: schedules.one_cycle_lr(lr, updates),
    }[options.schedule]()
    return schedules.warmup(rate, warm) if warm else rate


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

    data: Callable[[sources.Source], sources.Source] = _same
    seen: Callable[[Pictures], Pictures] = _same
    model: Callable[[nnx.Module], nnx.Module] = _same
    objective: Callable[[LossFn], LossFn] = _same
    tx: Callable[[optax.GradientTransformation], optax.GradientTransformation] = _same
    inputs: Callable[[step.Prepare], step.Prepare] = _same
    deploy: Deploy = _same


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
    seen = technique.seen(pictures(source, config.data))
    loader = train_loader(config, source)
    steps = run.steps if run.steps is not None else run.epochs * loader.steps_per_epoch
    if steps < 1:
        raise ValueError(f"expected at least one step, got --epochs {run.epochs} --steps {run.steps}")
    if run.early_stop is not None and run.early_stop < 1:
        raise ValueError(f"--early-stop expects a number of epochs, at least 1; got {run.early_stop}")
    tx = technique.tx(optimizer(config.optim, loader.steps_per_epoch, steps))
    plan = parallel.make_plan(config.scale)
    with plan.birthplace():
        net, graph, first = start(config, seen, tx, technique)
    plan.check(loader, first)
    loss_fn = technique.objective(objective(config.optim, source))
    dtype, inputs = DTYPES[run.precision], technique.inputs(seen.inputs(config.data.augment))
    eval_step, predict_step = inference(net, seen, dtype, technique.deploy)

    def gradients(graph: nnx.GraphDef, differentiate: step.Differentiate) -> step.Gradient:
        return step.gradients(graph, loss_fn, inputs, dtype, differentiate)

    return Job(
        seen=seen,
        loader=loader,
        tests=test_loader(source),
        validation=validation,
        steps=steps,
        chunk_steps=run.chunk_steps or _chunk_steps(eval_step, first, loader, plan.mesh),
        model=net,
        deploy=technique.deploy,
        plan=plan,
        state=plan.place(first),
        train_step=step.update_step(plan.gradient(gradients, graph, first), tx),
        eval_step=eval_step,
        predict_step=predict_step,
        gradients=gradients(graph, step.of_whole),
    )


def start(
    config: TrainConfig, seen: Pictures, tx: optax.GradientTransformation, technique: Technique = PLAIN
) -> tuple[nnx.Module, nnx.GraphDef, TrainState]:
    """The plain model with its initial weights, the structure of the trained one, the state of the first step."""
    init_key, run_key = jax.random.split(jax.random.key(config.run.seed))
    net = model(config.model, seen, init_key)
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


def inference(
    net: nnx.Module, seen: Pictures, dtype: jnp.dtype | None, deploy: Deploy = _same
) -> tuple[Callable[[TrainState, Batch], Metrics], Callable[[TrainState, Batch], Array]]:
    """The pure steps of a model in evaluation mode: ``eval_step`` and ``predict_step``.

    They take the state of a run, whose parameters ``deploy`` makes those of ``net``.
    """
    view = nnx.view(net, deterministic=True, use_running_average=True, raise_if_not_found=False)
    inputs = functools.partial(seen.inputs(), jax.random.key(0))  # without augmentation the key goes unused
    graph = nnx.graphdef(view)

    def deployed(run: Callable[[TrainState, Batch], Any]) -> Callable[[TrainState, Batch], Any]:
        def on_state(state: TrainState, batch: Batch) -> Any:
            params, stats = deploy((state.params, state.stats))
            return run(dataclasses.replace(state, params=params, stats=stats), batch)

        return on_state

    return (
        deployed(step.eval_step(graph, classification(), inputs, dtype)),
        deployed(step.predict_step(graph, inputs, dtype)),
    )


def _chunk_steps(eval_step: Any, start: TrainState, loader: Loader, mesh: Mesh) -> int:
    """Enough steps to hide what starting a program costs, few enough to stop and to show progress in between.

    A function of the model and the data alone, never of a clock: see `Loader.chunks`.
    """
    batch = {
        name: jax.ShapeDtypeStruct((loader.batch_size, *rows.shape[1:]), rows.dtype)
        for name, rows in loader.split.items()
    }
    forward = jax.jit(eval_step).lower(start, batch).cost_analysis()
    work = 3 * max(float((forward or {}).get("flops", 0)), 1.0)  # a backward pass costs two forward ones
    steps = CHUNK_WORK.get(mesh.devices.flat[0].platform, CHUNK_WORK["gpu"]) / work
    if not loader.resident:
        steps = min(steps, STREAMED_BYTES / loader.batch_bytes)
    return int(min(max(steps, 1), max(loader.full_batches, 1)))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that has ended, ready to use.

    Attributes:
      config, seen: what it was trained with and on.
      model: the module in evaluation mode, with its weights; takes images as ``seen.inputs()`` makes them.
      state: its ``params`` and ``stats`` are those of the model.
      eval_step, predict_step: see `jaxdl.engine.step`.
    """

    config: TrainConfig
    seen: Pictures
    model: nnx.Module
    state: TrainState
    eval_step: Callable[[TrainState, Batch], Metrics]
    predict_step: Callable[[TrainState, Batch], Array]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) uint8 -> probabilities (N, classes) float32."""
        return np.asarray(jax.jit(self.predict_step)(self.state, {"image": images}))

    def evaluate(self, source: sources.Source) -> dict[str, float]:
        """The means of loss and accuracy over the test split of a data set.

        Raises:
          ValueError: its images or classes are not those of the run.
        """
        fitting = self.seen.fit or source.image_shape == self.seen.shape
        if not fitting or source.classes != self.seen.classes:
            raise ValueError(
                f"the run was trained on images {self.seen.shape} of {len(self.seen.classes)} classes; "
                f"{source.name} has {source.image_shape} of {source.num_classes}"
            )
        mesh = parallel.make_mesh(parallel.first_devices(1))
        return averages.means(
            averages.host_total(parallel.evaluator(self.eval_step, test_loader(source), mesh)(self.state))
        )


def trained(
    config: TrainConfig,
    images: Mapping[str, Any],
    path: Path,
    form: Callable[[nnx.Module], nnx.Module] = _same,
) -> Trained:
    """The model of a run with the weights at ``path``.

    Args:
      config: the run's options.
      images: what ``config.json`` says under that name, see `Pictures`.
      path: ``weights.safetensors``.
      form: the plain model -> the one whose weights these are.

    Raises:
      FileNotFoundError, ValueError: as `jaxdl.engine.weights.load`.
    """
    seen, key = Pictures.from_json(images), jax.random.key(0)
    net = form(model(config.model, seen, key))
    _, start = state.create(net, optax.identity(), key)
    params, stats = weights.load(path, net, start.params, start.stats)
    nnx.update(net, params, stats)
    view = nnx.view(net, deterministic=True, use_running_average=True, raise_if_not_found=False)
    eval_step, predict_step = inference(net, seen, DTYPES[config.run.precision])
    start = dataclasses.replace(start, params=params, stats=stats)
    return Trained(config, seen, view, start, eval_step, predict_step)


def load(run: Path) -> Trained:
    """The model in a run's folder, or in a file that `pack` wrote.

    Raises:
      FileNotFoundError, ValueError: the folder holds no run, an unfinished or a damaged one; another kind of file.
    """
    if run.is_file():
        about = packed.load(run)[1]
        if "images" not in about:
            raise ValueError(f"{run} has weights and says nothing of their model")
        return trained(replace(TrainConfig(), about["options"]), about["images"], run)
    config = read_config(run)
    return trained(replace(TrainConfig(), config["options"]), config["images"], run / "weights.safetensors")


def pack(path: Path, config: TrainConfig, seen: Pictures, arrays: Mapping[str, packed.Packable]) -> int:
    """Writes weights in few bytes, with all that `load` has to know; returns how many bytes they are.

    Args:
      path: the file.
      config: the run's.
      seen: its images.
      arrays: of its model, by name, in torch's layouts.
    """
    plain = to_dict(TrainConfig())
    told = {"dataset": config.data.dataset, "precision": config.run.precision, **dataclasses.asdict(config.model)}
    options = {name: value for name, value in told.items() if value != plain[name]}
    images = {name: value for name, value in dataclasses.asdict(seen).items() if value}
    return packed.save(path, arrays, {"options": options, "images": images})


def test_loader(source: sources.Source) -> Loader:
    """The test batches, in stored order."""
    return stored_order(source.test)


def stored_order(split: sources.Split) -> Loader:
    """Batches to evaluate on: every example once."""
    return Loader(split, min(EVAL_BATCH, len(split["label"])), shuffle=False)
