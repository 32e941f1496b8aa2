"""A run that has ended, ready to use: from its folder or from one file."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxdl import parts
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data.loader import stored_order
from jaxdl.data.sources import Source
from jaxdl.engine import metrics as averages
from jaxdl.engine import packed, parallel, state, step, weights
from jaxdl.engine.objective import classification
from jaxdl.engine.run_folder import read_config
from jaxdl.engine.state import TrainState
from jaxdl.parts import DTYPES, same
from jaxdl.pictures import Pictures
from jaxdl.typing import Array, Batch, Metrics, PyTree

Deploy = Callable[[tuple[PyTree, PyTree]], tuple[PyTree, PyTree]]


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
        return np.asarray(self._predict(self.state, {"image": images}))

    @functools.cached_property
    def _predict(self) -> Callable[..., Array]:
        return jax.jit(self.predict_step)

    def evaluate(self, source: Source) -> dict[str, float]:
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
            averages.host_total(parallel.evaluator(self.eval_step, stored_order(source.test), mesh)(self.state))
        )


def trained(
    config: TrainConfig,
    images: Mapping[str, Any],
    path: Path,
    form: Callable[[nnx.Module], nnx.Module] = same,
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
    net = form(parts.model(config.model, seen, key))
    _, start = state.create(net, optax.identity(), key)
    params, stats = weights.load(path, net, start.params, start.stats)
    nnx.update(net, params, stats)
    view = nnx.view(net, deterministic=True, use_running_average=True, raise_if_not_found=False)
    eval_step, predict_step = steps(net, seen, DTYPES[config.run.precision])
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


def steps(
    net: nnx.Module, seen: Pictures, dtype: jnp.dtype | None, deploy: Deploy = same
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
