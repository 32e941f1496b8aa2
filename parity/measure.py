"""Noise-floor mode: in float32, bfloat16 or on a GPU a port may be as far from the truth as torch is, not further.

The truth is torch in float64 with the very weights and batches that the narrow type holds.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity import mask_orders, torch_side
from parity.bridge import Bridge, BridgeError
from parity.flax_side import FlaxSide, record
from parity.pair import Pair, PairError
from parity.prove import STEPS, Subject, precise, prepare
from parity.recording import PHASES, Recording
from parity.torch_side import TorchSide
from parity.verdict import Judgement, Leaf, Phase, Verdict, relative

DTYPES = {"float32": (torch.float32, jnp.float32), "bfloat16": (torch.bfloat16, jnp.bfloat16)}
DEVICES = {"cpu": "cpu", "gpu": "cuda"}
# torch's own error is a random number, so it is drawn a few times, with weights half a unit in the last place
# apart.
RUNS = 5
# What the correct pairs perceptron, convnet, block and net needed at most over 20 seeds, all tensors (`factors`):
# 1.78 in float32 (3,340 tensors), 5.69 in bfloat16 (1,567).
FACTOR = 8.0


@dataclasses.dataclass(frozen=True)
class Floor(Leaf):
    """A tensor in a narrow type: `error` is the port's, `floor` torch's own, `limit` what is allowed."""

    @property
    def factor(self) -> float:
        """How many times torch's error the port's is."""
        return self.error / self.floor if self.floor else math.inf if self.error else 0.0


def measure(
    pair: Pair,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    steps: int = STEPS,
    k: float = FACTOR,
) -> Judgement:
    """Compares both sides in a narrow type with torch in float64.

    Args:
      pair: what to compare.
      dtype: "float32" or "bfloat16".
      device: "cpu" or "gpu", for both.
      seed, steps: as in `parity.prove.prove`.
      k: how many times torch's error the port may have.

    Returns:
      The judgement, its tensors `Floor`; where the two cannot be run or matched, one phase with the ERROR.

    Raises:
      PairError: another dtype or device, or no such device here.
    """
    _available(dtype, device)
    theirs, ours = DTYPES[dtype]
    narrow, tiny = _rounded(pair, theirs), float(torch.finfo(theirs).eps)
    try:
        with precise():
            subject = prepare(narrow, seed=seed)
        held, weights = subject.bridge.held, _neighbours(subject, theirs, seed)
        with precise():
            truth = torch_side.record(
                TorchSide(narrow, subject.module, weights[0], hold=held), seed=seed, steps=steps
            )
            mask_orders.settle(subject.flax, truth, seed)
        options = {"dtype": theirs, "hold": held, "device": DEVICES[device]}
        sides = (TorchSide(narrow, subject.module, moved, **options) for moved in weights)
        runs = [torch_side.record(side, seed=seed, steps=steps) for side in sides]
        port = _port(subject, weights[0], ours, device, truth, seed, steps)
    except (PairError, BridgeError) as error:
        return Judgement(pair.name, (Phase("pair", error=str(error)),))
    phases = judge(truth, runs, port, subject.bridge, k, tiny)
    facts = {
        "versions": truth.facts["versions"] | port.facts["versions"],
        "seed": seed,
        "steps": steps,
        "dtype": dtype,
        "device": device,
        "k": k,
        "tiny": tiny,
    }
    return Judgement(pair.name, phases, tuple(subject.warnings), tuple(subject.bridge.lines()), facts)


def factors(
    pair: Pair, *, dtype: str = "float32", device: str = "cpu", seeds: int = 20, steps: int = STEPS
) -> dict[str, np.ndarray]:
    """The k that every tensor of a correct pair would have needed, over many seeds: what `FACTOR` has to exceed.

    Returns:
      phase -> ``(err(port) - tiny) / err(torch)`` of every tensor and seed, at least 0; without those on which
      `measure` abstains.

    Raises:
      PairError: the pair cannot be measured.
    """
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        judgement = measure(pair, dtype=dtype, device=device, seed=seed, steps=steps, k=FACTOR)
        if judgement.verdict is Verdict.ERROR:
            raise PairError(next(phase.error for phase in judgement.phases if phase.error))
        for phase in judgement.phases:
            found.setdefault(phase.name, []).extend(
                max(0.0, leaf.error - judgement.facts["tiny"]) / leaf.floor if leaf.floor else 0.0
                for leaf in phase.leaves
                if leaf.verdict is not Verdict.ABSTAIN
            )
    return {name: np.asarray(values) for name, values in found.items() if values}


def judge(
    truth: Recording, runs: Sequence[Recording], port: Recording, bridge: Bridge, k: float, tiny: float
) -> tuple[Phase, ...]:
    """``err(port) <= k * err(torch) + tiny`` for every tensor; the optimizer's own are left to the updates.

    Args:
      truth: torch in float64.
      runs: torch in the narrow type, the first with the weights of the truth, the others with neighbours of them.
      port: in the narrow type, with the weights of the truth.
      bridge: joins torch's terms that the port keeps as one.
      k, tiny: as above; `tiny` is one unit in the last place, for tensors that torch happens to hit.
    """
    phases = []
    for name in PHASES:
        if name in ("weights", "large_mean", "optimizer_state", "optimizer"):
            continue
        mine, exact = _own(port, name, bridge), _own(truth, name, bridge)
        theirs = [_own(run, name, bridge) for run in runs]
        skipped = [recording.facts["skipped"].get(name) for recording in (truth, port)]
        if any(skipped) and not (mine and exact):
            phases.append(Phase(name, skipped=next(filter(None, skipped))))
            continue
        leaves = [
            _leaf(
                leaf, mine.get(leaf), exact[leaf], max(relative(run[leaf], exact[leaf]) for run in theirs), k, tiny
            )
            for leaf in exact
            if leaf not in bridge.held
        ]
        phases.append(Phase(name, tuple(leaves), skipped="" if leaves else "neither side has it"))
    return tuple(phases)


def _own(recording: Recording, phase: str, bridge: Bridge) -> dict[str, np.ndarray]:
    """The tensors of a phase; of `updates` the losses and where the last step has led."""
    found = {leaf: recording.tensors[key] for leaf, key in recording.phase(phase).items()}
    if phase == "updates":
        last = max((int(leaf.split("/")[0]) for leaf in found if "/" in leaf), default=0)
        found = {
            leaf.removeprefix(f"{last}/"): value
            for leaf, value in found.items()
            if "/" not in leaf or leaf.startswith(f"{last}/")
        }
    return bridge.merged(found, "gradient" if phase == "parameter_gradients" else "value")


def _leaf(name: str, mine: np.ndarray | None, exact: np.ndarray, floor: float, k: float, tiny: float) -> Floor:
    limit = k * floor + tiny
    if mine is None:
        return Floor(name, Verdict.FAIL, math.inf, limit, floor, "the port has no such tensor")
    error = relative(mine, exact)
    if floor >= 0.5:
        return Floor(name, Verdict.ABSTAIN, error, limit, floor, "torch's own result is noise in this type")
    if error > limit:
        times = f"{error / floor:.3g} times torch's own error" if floor else "torch makes no error here"
        return Floor(name, Verdict.FAIL, error, limit, floor, times)
    if limit >= 1:
        return Floor(
            name, Verdict.ABSTAIN, error, limit, floor, "a port that gives zeros would be allowed as much"
        )
    return Floor(name, Verdict.PASS, error, limit, floor)


def _available(dtype: str, device: str) -> None:
    if dtype not in DTYPES:
        raise PairError(f"expected dtype {' or '.join(DTYPES)}, got {dtype!r}")
    if device not in DEVICES:
        raise PairError(f"expected device {' or '.join(DEVICES)}, got {device!r}")
    if device == "cpu":
        return
    blind = [] if torch.cuda.is_available() else ["torch"]
    try:
        jax.local_devices(backend=device)
    except RuntimeError:
        blind.append("JAX")
    if blind:
        raise PairError(f"no GPU for {' and '.join(blind)} here; both need one for device='gpu'")


def _rounded(pair: Pair, dtype: torch.dtype) -> Pair:
    """A pair whose floating-point inputs and targets are those that a narrow type holds."""

    def rounded(draw: Any) -> Any:
        return lambda rng: jax.tree.map(lambda x: _round(x, dtype) if x.dtype.kind == "f" else x, draw(rng))

    targets = rounded(pair.targets) if pair.targets else None
    return dataclasses.replace(pair, inputs=rounded(pair.inputs), targets=targets)


def _round(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return torch.tensor(np.asarray(values, np.float64)).to(dtype).double().numpy()


def _neighbours(subject: Subject, dtype: torch.dtype, seed: int) -> list[dict[str, np.ndarray]]:
    """Weights that the type holds: the subject's own, and others half a unit in the last place from them."""
    exact = {name: _round(value, dtype) for name, value in subject.weights.items()}
    size = torch.finfo(dtype).eps / 2
    moved = [torch_side.perturbed(exact, seed + run, size) for run in range(1, RUNS)]
    return [exact, *({name: _round(value, dtype) for name, value in values.items()} for values in moved)]


def _port(
    subject: Subject,
    weights: Mapping[str, np.ndarray],
    dtype: Any,
    device: str,
    truth: Recording,
    seed: int,
    steps: int,
) -> Recording:
    """The port in the narrow type, with the precision flags that its user has set."""
    pair, bridge = subject.pair, subject.bridge
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(False))
        stack.enter_context(jax.default_device(jax.local_devices(backend=device)[0]))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        flax = FlaxSide(pair, pair.flax_module(), pair.batch(seed, 0)[0], dtype=dtype)
        flax.flattened, flax.orders = bridge.flattened, subject.flax.orders
        flax.mask_orders = subject.flax.mask_orders
        flax.load(bridge.to_flax(weights))
        return record(flax, bridge, truth, seed=seed, steps=steps)
