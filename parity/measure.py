"""Noise-floor mode: in float32, bfloat16 or on a GPU a port may be as far from the truth as torch is, and no further.

The truth is torch in float64 with the very weights and inputs that the narrow type holds.
"""

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity import torch_side
from parity.bridge import Bridge, BridgeError
from parity.flax_side import FlaxSide
from parity.pair import Pair, PairError
from parity.prove import precise, prepare
from parity.recording import PHASES, Recording
from parity.torch_side import TorchSide
from parity.verdict import Judgement, Leaf, Phase, Verdict, relative

DTYPES = {"float32": (torch.float32, jnp.float32), "bfloat16": (torch.bfloat16, jnp.bfloat16)}
# torch's own error is a random number: it is taken as the largest of a few runs whose weights differ by half a unit in
# the last place. The port's was at most 3.2 times that on correct pairs over 20 seeds (see the README).
RUNS = 3
FACTOR = 8.0


@dataclasses.dataclass(frozen=True)
class Floor(Leaf):
    """A tensor in a narrow type: `error` is the port's from float64, `floor` torch's own, `limit` what is allowed."""

    @property
    def factor(self) -> float:
        """How many times torch's error the port's is."""
        return self.error / self.floor if self.floor else float("inf") if self.error else 0.0


def measure(
    pair: Pair, *, dtype: str = "float32", device: str = "cpu", seed: int = 0, steps: int = 5, k: float = FACTOR
) -> Judgement:
    """Compares both sides in a narrow type with torch in float64.

    Args:
      pair: what to compare.
      dtype: "float32" or "bfloat16".
      device: "cpu" or "gpu", for both.
      seed, steps: as in `parity.prove.prove`.
      k: how many times torch's error the port may have.

    Raises:
      PairError: another dtype, or no such device.
    """
    if dtype not in DTYPES:
        raise PairError(f"expected dtype {' or '.join(DTYPES)}, got {dtype!r}")
    theirs, ours = DTYPES[dtype]
    try:
        with precise():
            subject = prepare(pair, seed=seed)
            narrow = _Rounded(pair, theirs)
            weights = {name: _round(value, theirs) for name, value in subject.weights.items()}
            held = subject.bridge.held
            truth = TorchSide(narrow.pair, subject.module, weights, hold=held).record(seed=seed, steps=steps)
        place = {"cpu": "cpu", "gpu": "cuda"}[device]
        runs = []
        for run in range(RUNS):
            moved = torch_side.perturbed(weights, seed + run, torch.finfo(theirs).eps / 2) if run else weights
            side = TorchSide(narrow.pair, subject.module, moved, dtype=theirs, hold=held, device=place)
            runs.append(side.record(seed=seed, steps=steps))
        port = _port(narrow.pair, subject.bridge, weights, truth, ours, device, seed, steps)
    except (PairError, BridgeError) as error:
        return Judgement(pair.name, (Phase("pair", error=str(error)),))
    tiny = float(torch.finfo(theirs).eps)
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


def judge(
    truth: Recording, runs: list[Recording], port: Recording, bridge: Bridge, k: float, tiny: float
) -> tuple[Phase, ...]:
    """``err(port) <= k * err(torch) + tiny`` for every tensor; the optimizer's own are left to the updates."""
    phases = []
    for name in PHASES:
        if name in ("weights", "optimizer_state"):
            continue
        meaning = "gradient" if name == "parameter_gradients" else "value"

        def own(recording: Recording, name: str = name, meaning: str = meaning) -> dict[str, np.ndarray]:
            found = {leaf: recording.tensors[key] for leaf, key in recording.phase(name).items()}
            last = max((int(leaf.split("/")[0]) for leaf in found if "/" in leaf), default=0)
            if last:
                found = {
                    leaf.removeprefix(f"{last}/"): value
                    for leaf, value in found.items()
                    if "/" not in leaf or leaf.startswith(f"{last}/")
                }
            return bridge.merged(found, meaning)

        exact, mine, theirs = own(truth), own(port), [own(run) for run in runs]
        skipped = next((r.facts["skipped"][name] for r in (truth, port) if name in r.facts["skipped"]), "")
        leaves = [
            _leaf(leaf, mine.get(leaf), exact[leaf], [run[leaf] for run in theirs], k, tiny)
            for leaf in exact
            if leaf not in bridge.held
        ]
        phases.append(Phase(name, tuple(leaves), skipped=skipped if not leaves else ""))
    return tuple(phases)


def _leaf(
    name: str, mine: np.ndarray | None, exact: np.ndarray, theirs: list[np.ndarray], k: float, tiny: float
) -> Floor:
    floor = max(relative(run, exact) for run in theirs)
    limit = k * floor + tiny
    if mine is None:
        return Floor(name, Verdict.FAIL, float("inf"), limit, floor, "the port has no such tensor")
    error = relative(mine, exact)
    if floor >= 0.5:
        return Floor(name, Verdict.ABSTAIN, error, limit, floor, "torch's own result is noise in this type")
    reason = "" if error <= limit else f"{error / floor if floor else float('inf'):.3g} times torch's own error"
    return Floor(name, Verdict.PASS if error <= limit else Verdict.FAIL, error, limit, floor, reason)


class _Rounded:
    """A pair whose floating-point inputs are those that a narrow type holds."""

    def __init__(self, pair: Pair, dtype: torch.dtype) -> None:
        def inputs(rng: np.random.Generator) -> Any:
            return jax.tree.map(lambda x: _round(x, dtype) if x.dtype.kind == "f" else x, pair.inputs(rng))

        self.pair = dataclasses.replace(pair, inputs=inputs)


def _round(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return torch.tensor(np.asarray(values, np.float64)).to(dtype).double().numpy()


def _port(
    pair: Pair,
    bridge: Bridge,
    weights: dict[str, np.ndarray],
    truth: Recording,
    dtype: Any,
    device: str,
    seed: int,
    steps: int,
) -> Recording:
    try:
        place = jax.local_devices(backend=device)[0]
    except RuntimeError as error:
        raise PairError(f"JAX has no {device} here") from error
    with (
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(jax.enable_x64(False))
        stack.enter_context(jax.default_device(place))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        flax = FlaxSide(pair, pair.flax_module(), pair.batch(seed, 0)[0], dtype=dtype)
        flax.load(bridge.to_flax(weights))
        return flax.record(bridge, truth.facts, seed=seed, steps=steps)
