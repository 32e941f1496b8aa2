"""The proof: both sides in float64 on the CPU, phase by phase."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity import torch_side, verdict
from parity.bridge import Bridge, BridgeError, infer
from parity.flax_side import FlaxSide
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
    cpu = jax.local_devices(backend="cpu")[0]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            jax.enable_x64(True),
            jax.default_device(cpu),
            jax.default_matmul_precision("highest"),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def prepare(pair: Pair, *, seed: int = 0, dtype: Any = jnp.float64) -> Subject:
    """Bridges the two modules and gives them the same weights.

    Raises:
      PairError, BridgeError: what makes that impossible.
    """
    warnings = []
    module, port = pair.torch_module(), pair.flax_module()
    floats = {str(value.dtype).removeprefix("torch.") for value in module.parameters() if value.is_floating_point()}
    if floats - {"float32", "float64"}:
        warnings.append(f"torch's weights are {', '.join(sorted(floats))}; they are taken into float64 as they are")
    weights = torch_side.state(module)
    flax = FlaxSide(pair, port, pair.batch(seed, 0)[0], dtype=dtype)
    bridge = infer(
        torch_side.describe(module),
        flax.leaves,
        tied=torch_side.tied(module),
        rules=pair.rules,
        ignore=pair.ignore,
    )
    flax.flattened = bridge.flattened
    ties = torch_side.tied(module)
    if pair.weights == "copy":
        if pair.shake:
            changed = torch_side.shaken(weights, seed)
            count = sum(changed[name] is not weights[name] for name in weights)
            if count:
                warnings.append(f"{count} constant tensors (norm scales, zero biases, ...) got random values on both sides")
            weights = changed | {name: changed[first] for name, first in ties.items()}
        flax.load(bridge.to_flax(weights))
    elif callable(pair.weights):
        flax.load(_converted(pair.weights(weights), flax))
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
    reference = TorchSide(pair, module, subject.weights, hold=held).record(seed=seed, steps=steps)
    reference.facts["scheduled"] = pair.torch_scheduler is not None
    moved = torch_side.perturbed(subject.weights, seed, ROUNDING)
    perturbed = TorchSide(pair, module, moved, hold=held, noise=ROUNDING).record(seed=seed, steps=steps)
    port = subject.flax.record(subject.bridge, reference.facts, seed=seed, steps=steps)
    if pair.weights != "copy":
        own = subject.bridge.to_torch(subject.flax.variables())
        port.tensors = {f"weights/{name}": value for name, value in own.items()} | dict(port.tensors)
        given = subject.bridge.merged(subject.weights)
        reference.tensors = {f"weights/{name}": given[name] for name in own} | dict(reference.tensors)
    else:
        port.facts["skipped"]["weights"] = "the bridge carried them"
    return reference, port, perturbed


@dataclasses.dataclass(frozen=True)
class Proof:
    """A judgement and what it rests on: the pair made ready, torch's recording and the port's; None after an ERROR."""

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
    dropout = _dropout(reference.facts["dropout"], port.facts["dropout"])
    judgement = Judgement(
        pair.name,
        phases,
        (*subject.warnings, *dropout, *weak),
        tuple(subject.bridge.lines()),
        facts | {"rates": reference.facts.get("rates")},
    )
    return Proof(judgement, subject, reference, port)


def _converted(values: Mapping[str, Any], flax: FlaxSide) -> dict[str, np.ndarray]:
    """What a user's own conversion made, by dotted path; all differences to the port at once."""
    flat = jax.tree_util.tree_flatten_with_path(values)[0]
    found = {".".join(str(getattr(entry, "key", entry)) for entry in path): np.asarray(value) for path, value in flat}
    wanted = flax.variables()
    collections = ("params.", "batch_stats.")
    found = {
        name if name in wanted else next((name.removeprefix(c) for c in collections if name.startswith(c)), name): value
        for name, value in found.items()
    }
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not in the port" for name in found if name not in wanted]
    problems += [
        f"{name}: expected shape {wanted[name].shape}, got {value.shape}"
        for name, value in found.items()
        if name in wanted and wanted[name].shape != value.shape
    ]
    if problems:
        raise PairError(f"the pair's own conversion of weights: {'; '.join(problems)}")
    return found


def _dropout(torch_calls: list[dict[str, Any]], port_calls: list[dict[str, Any]]) -> list[str]:
    """How the two draw dropout masks differently."""
    if len(torch_calls) != len(port_calls):
        return [f"torch draws {len(torch_calls)} dropout masks in a step, the port {len(port_calls)}"]
    found = []
    for place, (theirs, mine) in enumerate(zip(torch_calls, port_calls, strict=True)):
        if mine["rate"] is not None and abs(theirs["rate"] - mine["rate"]) > 1e-6:
            found.append(f"dropout {place}: torch's rate is {theirs['rate']:g}, the port's {mine['rate']:g}")
        if sorted(theirs["shape"]) != sorted(mine["shape"]):
            found.append(f"dropout {place}: torch's mask is {theirs['shape']}, the port's {mine['shape']}")
    return found
