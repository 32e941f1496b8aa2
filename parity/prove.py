"""The proof: both sides in float64 on the CPU, phase by phase."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity import flax_side, mask_orders, norms, probe, torch_side, verdict
from parity.bridge import Bridge, BridgeError, infer
from parity.flax_side import FlaxSide, converted
from parity.pair import Pair, PairError
from parity.recording import Recording
from parity.torch_side import TorchSide
from parity.verdict import Judgement, Phase

STEPS = 5
# What a weight or an input could be off by when it comes out of a few operations in float64.
ROUNDING = 1e-14


@dataclasses.dataclass
class Subject:
    """A pair made ready: both modules with the same weights, and the table between them.

    Attributes:
      pair: what was given.
      module: the torch module, untouched.
      weights: what both sides start with, by torch key.
      flax: the port's side with these weights.
      bridge: between them.
      warnings: what was done to make them comparable.
    """

    pair: Pair
    module: torch.nn.Module
    weights: dict[str, np.ndarray]
    flax: FlaxSide
    bridge: Bridge
    warnings: list[str]


@contextlib.contextmanager
def precise() -> Iterator[None]:
    """float64 on the CPU in both frameworks, with no fast paths."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with flax_side.precise():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextlib.contextmanager
def blamed(what: str) -> Iterator[None]:
    """Turns whatever goes wrong in it into one line that says where.

    Raises:
      PairError: with the type of the error and the first line of its message.
    """
    try:
        yield
    except (PairError, BridgeError):
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise PairError(f"{what} failed: {type(error).__name__}: {first}") from error


def prepare(pair: Pair, *, seed: int = 0, dtype: Any = jnp.float64) -> Subject:
    """Bridges the two modules and gives them the same weights.

    Raises:
      PairError, BridgeError: what makes that impossible.
    """
    warnings = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # so that a failure can be shown again
        with blamed("making the torch module"):
            module = pair.torch_module()
        with blamed("making the port"):
            port = pair.flax_module()
    with blamed("drawing inputs and targets"):
        pair.batch(seed, 0)
    weights, told = torch_side.starting(pair, module, seed)
    warnings += told
    with blamed("reading the port"):
        flax = FlaxSide(pair, port, pair.batch(seed, 0)[0], dtype=dtype)
    bridge = infer(
        torch_side.describe(module),
        flax.leaves,
        tied=torch_side.tied(module),
        rules=pair.rules,
        ignore=pair.ignore,
    )
    bridge, told = probe.settle(bridge, flax, module, bridge.merged(weights), seed)
    warnings += told
    flax.flattened = bridge.flattened
    if pair.weights == "copy":
        flax.load(bridge.to_flax(weights))
    elif pair.weights != "loaded":
        flax.load(converted(pair.weights(weights), flax))
    weights = bridge.merged(weights)
    bad = [name for name, value in flax.variables().items() if not np.isfinite(value).all()]
    if bad:
        raise PairError(f"the port's weights hold NaN or infinity: {', '.join(bad)}")
    warnings += [f"{name}: ignored, {reason}" for name, reason in bridge.ignored.items()]
    if bridge.held:
        held = ", ".join(sorted(bridge.held))
        warnings.append(
            f"{held}: held still in training, as the port keeps one bias where torch adds two, "
            "which together move twice as far"
        )
    return Subject(pair, module, weights, flax, bridge, warnings)


def record(subject: Subject, *, seed: int = 0, steps: int = STEPS) -> tuple[Recording, Recording, Recording]:
    """torch, the port, and torch with weights and inputs that rounding could have changed."""
    pair, module, held = subject.pair, subject.module, subject.bridge.held
    with blamed("torch's side"):
        reference = torch_side.record(TorchSide(pair, module, subject.weights, hold=held), seed=seed, steps=steps)
    reference.facts["scheduled"] = pair.torch_scheduler is not None
    mask_orders.settle(subject.flax, reference, seed)
    moved = torch_side.perturbed(subject.weights, seed, ROUNDING)
    noisy = TorchSide(pair, module, moved, hold=held, noise=ROUNDING)
    perturbed = torch_side.record(noisy, seed=seed, steps=steps)
    with blamed("the port's side"):
        given = {"seed": seed, "steps": steps, "start": subject.weights}
        port = flax_side.record(subject.flax, subject.bridge, reference, **given)
    _add_norms(subject, reference, port, seed)
    if pair.weights != "copy":
        own = subject.bridge.to_torch(subject.flax.variables())
        port.tensors = {f"weights/{name}": value for name, value in own.items()} | dict(port.tensors)
        given = subject.bridge.merged(subject.weights)
        reference.tensors = {f"weights/{name}": given[name] for name in own} | dict(reference.tensors)
    else:
        port.facts["skipped"]["weights"] = "the bridge carried them"
    return reference, port, perturbed


def _add_norms(subject: Subject, reference: Recording, port: Recording, seed: int) -> None:
    side = TorchSide(subject.pair, subject.module, subject.weights)
    theirs, ours = norms.large_mean(side, subject.flax, subject.bridge, reference.facts, seed)
    for recording, found in ((reference, theirs), (port, ours)):
        recording.tensors = dict(recording.tensors) | {
            f"large_mean/{path}": value for path, value in found.items()
        }
    if not theirs:
        reference.facts["skipped"]["large_mean"] = "torch has no norm that the port calls too"


@dataclasses.dataclass(frozen=True)
class Proof:
    """A judgement and what it rests on: the pair made ready and both recordings; None after an ERROR."""

    judgement: Judgement
    subject: Subject | None = None
    reference: Recording | None = None
    port: Recording | None = None


def prove(pair: Pair, *, seed: int = 0, steps: int = STEPS) -> Judgement:
    """The judgement of `proof`."""
    return proof(pair, seed=seed, steps=steps).judgement


def proof(pair: Pair, *, seed: int = 0, steps: int = STEPS) -> Proof:
    """Compares a pair phase by phase.

    Args:
      pair: what to compare.
      seed: of weights that are shaken, batches, masks.
      steps: updates in lockstep.

    Returns:
      Where the two cannot be run or matched, one phase with the ERROR.
    """
    with precise():
        try:
            subject = prepare(pair, seed=seed)
            reference, port, perturbed = record(subject, seed=seed, steps=steps)
        except (PairError, BridgeError) as error:
            return Proof(Judgement(pair.name, (Phase("pair", error=str(error)),)))
    phases = verdict.judge(reference, port, subject.bridge, perturbed)
    facts = {"versions": reference.facts["versions"] | port.facts["versions"], "seed": seed, "steps": steps}
    weak = verdict.stimulus(reference.facts, [pair.batch(seed, step) for step in range(2)])
    dropout = verdict.dropout(reference.facts["dropout"], port.facts["dropout"])
    judgement = Judgement(
        pair.name,
        phases,
        (*subject.warnings, *dropout, *weak),
        tuple(subject.bridge.lines()),
        facts | {"rates": reference.facts.get("rates")},
    )
    return Proof(judgement, subject, reference, port)
