"""What pruning changes of a run's training."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl import build, inference, parts, tree
from jaxdl.build import Technique
from jaxdl.config import ModelOptions
from jaxdl.data.sources import Source
from jaxdl.engine import weights
from jaxdl.inference import Trained
from jaxdl.methods.prune import masks, units
from jaxdl.methods.prune.plan import Plan, natively
from jaxdl.methods.prune.ramp import Ramp, cubic, pruned
from jaxdl.prune.options import PruneConfig, amount_of, based_on
from jaxdl.typing import Array


def starting_options(options: PruneConfig) -> PruneConfig:
    """What the command line is put over: the options of the run, with the model that will be left.

    Raises:
      FileNotFoundError, ValueError: no run that has ended, an amount that is no share, nothing to prune.
    """
    out, run = options.run.out, options.prune.run
    if options.run.resume and out and (out / "config.json").exists():
        return PruneConfig()  # `command` takes what the resumed run was started with
    if run is None:
        raise ValueError("expected the folder of a run; see --help")

    trained = inference.load(run)
    return dataclasses.replace(based_on(PruneConfig(), trained.config), model=model_left(trained, options))


def plan_of(config: PruneConfig) -> Plan:
    """What to prune."""
    options = config.prune
    return Plan(options.structure, options.layers, options.scope, options.criterion, config.run.seed)


def state_dict(trained: Trained) -> dict[str, Array]:
    """The parameters of a run, flat and in torch's layouts."""
    return weights.to_torch(trained.model, tree.flatten(trained.state.params))


def model_left(trained: Trained, config: PruneConfig) -> ModelOptions:
    """The options of the pruned model: those of the run, smaller where units go.

    Raises:
      ValueError: nothing to prune, or a layer without units.
    """
    model, params = trained.config.model, state_dict(trained)
    plan, amount = plan_of(config), amount_of(config.prune)
    if plan.structure != "units":
        plan.names(model.model, params)
        return model
    return dataclasses.replace(model, **units.options(plan.sizes(model.model, params, amount)))


def ramp_of(config: PruneConfig, source: Source) -> Ramp:
    """When how much is pruned.

    Raises:
      ValueError: a share outside [0, 1]; early stopping, which could go back to weights from before a pruning.
    """
    options, run = config.prune, config.run
    if not 0 <= options.ramp <= 1:
        raise ValueError(f"--ramp is a share from 0 to 1; got {options.ramp:g}")
    if options.structure == "2:4":
        return Ramp((amount_of(options),))
    if run.early_stop is not None and options.ramp:
        raise ValueError("--early-stop may go back to weights from before the last pruning; use it with --ramp 0")
    per_epoch = build.train_loader(config, source).steps_per_epoch
    steps = run.steps if run.steps is not None else run.epochs * per_epoch
    return cubic(amount_of(options), int(options.ramp * steps), options.prune_every)


def technique(config: PruneConfig, source: Source) -> Technique:
    """The weights of the run, an optimizer that prunes them, and the model that is left.

    Raises:
      ValueError: other classes than the run's, or a model that is not the run's.
    """
    run = config.prune.run or Path()
    trained = inference.load(run)
    if source.classes != trained.seen.classes:
        raise ValueError(
            f"{run} knows {len(trained.seen.classes)} classes; {source.name} has {source.num_classes}"
        )
    left = dataclasses.replace(model_left(trained, config), dropout=config.model.dropout)
    if config.model != left:
        raise ValueError(f"the model is that of {run}; only its --dropout can be changed")
    ramp, key = ramp_of(config, source), jax.random.key(0)
    whole = parts.model(dataclasses.replace(trained.config.model, dropout=left.dropout), trained.seen, key)
    find = natively(whole, plan_of(config).find(left.model, state_dict(trained), ramp.amounts))
    params = trained.state.params
    nnx.update(whole, masks.apply(params, find(params, jnp.int32(0))), trained.state.stats)
    changes = build.Technique(
        seen=lambda _: trained.seen, model=lambda _: whole, tx=lambda tx: pruned(tx, find, ramp)
    )
    if config.prune.structure != "units":
        return changes
    return dataclasses.replace(
        changes, deploy=units.removal(left.model, whole, parts.model(left, trained.seen, key))
    )
