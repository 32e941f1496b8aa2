"""How a composition is trained, and how it is stored."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl import build, inference, parts, tree
from jaxdl.build import Technique
from jaxdl.compress.forms import arrays_of, options_left, parts_of
from jaxdl.compress.options import CompressConfig
from jaxdl.config import replace
from jaxdl.data.sources import Source
from jaxdl.engine import weights
from jaxdl.engine.state import TrainState
from jaxdl.inference import Trained
from jaxdl.methods import compose, distill, low_rank
from jaxdl.methods.compose import Composition
from jaxdl.methods.prune import masks, units
from jaxdl.methods.prune.plan import Plan, natively
from jaxdl.methods.prune.ramp import Ramp, cubic, pruned
from jaxdl.prune.technique import state_dict

PRUNINGS = 20  # while the sparsity rises, which it does in the first half of the training


def with_composition(config: CompressConfig, trained: Trained, composition: Composition) -> CompressConfig:
    """The options of the training of a composition: its model is the smaller one."""
    left = dataclasses.replace(options_left(trained, composition.units), dropout=config.model.dropout)
    return replace(dataclasses.replace(config, model=left), {"composition": str(composition)})


def composed_model(config: CompressConfig, trained: Trained) -> tuple[nnx.Module, nnx.Module]:
    """The model of a composition, with the weights of the run, and the plain one that has its function."""
    composition, key, name = compose.parse(config.compress.composition), jax.random.key(0), config.model.model
    params = trained.state.params
    model, plain = (parts.model(config.model, trained.seen, key) for _ in range(2))
    if composition.units:
        theirs = state_dict(trained)
        keep = units.strongest(theirs, Plan("units").sizes(name, theirs, composition.units))
        left = weights.from_torch(plain, units.shrink(name, theirs, keep))
        params = tree.map_named(lambda name, _: left[name], params)
    nnx.update(model, params, trained.state.stats)
    shapes = {name: value.shape for name, value in arrays_of(plain, *parts_of(plain)).items()}
    low_rank.factorize(model, compose.ranks(shapes, composition.rank))
    return model, plain


def technique_of(config: CompressConfig, source: Source) -> tuple[Technique, nnx.Module]:
    """What a composition changes of a training, and the model that is trained."""
    trained = inference.load(config.compress.run or Path())
    composition, (model, plain) = compose.parse(config.compress.composition), composed_model(config, trained)
    changes: dict[str, Any] = {"seen": lambda _: trained.seen, "model": lambda _: model}
    if composition.sparsity:
        params = parts_of(model)[0]
        ramp = ramp_of(config, source, composition.sparsity)
        arrays = weights.to_torch(model, tree.flatten(params))
        find = natively(model, Plan().find(config.model.model, arrays, ramp.amounts))
        nnx.update(model, masks.apply(params, find(params, jnp.int32(0))))
        changes["tx"] = lambda tx: pruned(tx, find, ramp)
    if composition.rank < 1:
        changes["deploy"] = lambda both: (low_rank.merge(model, plain, both[0]), both[1])
    if composition.soft:
        changes |= taught(config, trained, composition.soft)
    return Technique(**changes), model


def ramp_of(config: CompressConfig, source: Source, sparsity: float) -> Ramp:
    """When how much is pruned."""
    per_epoch = build.train_loader(config, source).steps_per_epoch
    steps = config.run.steps if config.run.steps is not None else config.run.epochs * per_epoch
    return cubic(sparsity, steps // 2, max(steps // 2 // PRUNINGS, 1))


def taught(config: CompressConfig, trained: Trained, soft: float) -> dict[str, Any]:
    """What soft targets of the run itself change of a training."""
    inputs = trained.seen.inputs()
    loss = functools.partial(distill.distillation, temperature=config.compress.temperature, soft_weight=soft)
    if config.data.augment:  # the run sees the images as they are then
        ask = distill.teacher([(trained.model, lambda batch: batch)])
        return {"objective": loss, "inputs": functools.partial(distill.answering, ask)}
    ask = distill.teacher([(trained.model, lambda batch: inputs(jax.random.key(0), batch))])
    return {"objective": loss, "data": functools.partial(distill.with_answers, ask)}


def pack(path: Path, config: CompressConfig, trained: Trained, model: nnx.Module, state: TrainState) -> int:
    """Writes what was trained as int8 and returns the bytes."""
    arrays = arrays_of(model, jax.device_get(state.params), jax.device_get(state.stats))
    return inference.pack(path, config, trained.seen, compose.pack(arrays))
