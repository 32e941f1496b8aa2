"""The forms into which a run can be brought, and how many zeros each needs to be of a size."""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxdl import inference, parts, tree
from jaxdl.compress.options import CompressConfig
from jaxdl.config import ModelOptions
from jaxdl.engine import weights
from jaxdl.inference import Trained
from jaxdl.methods import compose
from jaxdl.methods.compose import Composition
from jaxdl.methods.prune import units
from jaxdl.methods.prune.plan import Plan
from jaxdl.prune.technique import state_dict
from jaxdl.typing import PyTree

# Shares of units that go and of numbers that factors have; the sparsity follows from the size.
FORMS = ((0.0, 1.0), (0.25, 1.0), (0.5, 1.0), (0.75, 1.0), (0.0, 0.5), (0.0, 0.25), (0.5, 0.5))
FILE = "w.safetensors"
DIGITS = 40  # bytes an array by which a header grows with the sizes it tells

Shapes = dict[str, tuple[int, ...]]


class Forms:
    """The forms of a run, with the shapes of what is stored and the bytes beside codes and places of zeros."""

    def __init__(self, config: CompressConfig, trained: Trained) -> None:
        self._known = []
        for share, rank in FORMS:
            form = Composition(units=share, rank=rank)
            if share and trained.config.model.model not in units.CHAINS:
                continue
            options = options_left(trained, share)
            shapes = stored_shapes(trained, options)
            shapes = compose.factored(shapes, compose.ranks(shapes, rank))
            self._known.append((form, shapes, overhead(config, options, trained, shapes)))

    def reaching(self, size: int) -> list[Composition]:
        """The compositions of at most ``size`` bytes, with as few zeros as that takes."""
        found = []
        for form, shapes, beside in self._known:
            sparsity = compose.sparsity_for(shapes, size - beside)
            if sparsity is not None:
                found.append(dataclasses.replace(form, sparsity=sparsity))
        return found

    def least(self) -> int:
        """The size of the smallest."""
        return min(compose.least_room(shapes) + beside for _, shapes, beside in self._known)


def options_left(trained: Trained, share: float) -> ModelOptions:
    """The options of the run's model without a share of its units."""
    model = trained.config.model
    if not share:
        return model
    return dataclasses.replace(
        model, **units.options(Plan("units").sizes(model.model, state_dict(trained), share))
    )


def stored_shapes(trained: Trained, options: ModelOptions) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters and statistics of a model, in torch's layouts."""
    model = parts.model(options, trained.seen, jax.random.key(0))
    return {name: value.shape for name, value in arrays_of(model, *parts_of(model)).items()}


def overhead(config: CompressConfig, options: ModelOptions, trained: Trained, shapes: Shapes) -> int:
    """The bytes of a file of which all weights are 0, and some for the digits of larger numbers in its header."""
    empty = {
        name: (np.zeros if compose.is_weight(name, shape) else np.ones)(shape, np.float32)
        for name, shape in shapes.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        small = dataclasses.replace(config, model=options)
        return inference.pack(Path(folder) / FILE, small, trained.seen, compose.pack(empty)) + DIGITS * len(shapes)


def parts_of(model: nnx.Module) -> tuple[PyTree, PyTree]:
    """The parameters and the statistics of a model."""
    return nnx.to_pure_dict(nnx.state(model, nnx.Param)), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def arrays_of(model: nnx.Module, params: PyTree, stats: PyTree) -> dict[str, np.ndarray]:
    """Parameters and statistics by name, in torch's layouts, on the host."""
    values = {name: np.asarray(value) for name, value in (tree.flatten(params) | tree.flatten(stats)).items()}
    return weights.to_torch(model, values)
