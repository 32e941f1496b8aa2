"""PASS, FAIL, ABSTAIN, ERROR or SKIP, for every tensor, phase and pair, and why."""

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.bridge import Bridge
from parity.recording import PHASES, Recording, View

# float64. On correct ports of five families of models the largest error in any phase was 8e-14, and the smallest
# planted fault stood at 3e-7 (see the table in the README): either threshold is far from both.
ONE_STEP = 1e-10
MANY_STEPS = 1e-9
# Norms on a mean of 10^5 spreads: a careful variance was off by 1e-10 there, a difference of squares by 1e-6.
LARGE_MEAN = 1e-8
LIMITS = {"updates": MANY_STEPS, "resume": MANY_STEPS, "large_mean": LARGE_MEAN}
# A gradient this much smaller than that of all parameters together is rounding: torch's own is as wrong.
STRUCTURAL_ZERO = 1e-12
NO_GRADIENT = "the gradient is zero up to rounding: no input moves it"
# So is what such a gradient does to its parameter in training, where no optimizer blows it up.
STILL = 1e-9
# An error that rounding of torch's own weights and inputs could make, up to this factor, proves nothing.
SLACK = 10.0


class Verdict(enum.Enum):
    """In the order in which the worst of several counts."""

    PASS = "PASS"
    SKIP = "SKIP"
    ABSTAIN = "ABSTAIN"
    FAIL = "FAIL"
    ERROR = "ERROR"


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One tensor.

    Attributes:
      name: torch's key, or the place of an output.
      verdict: of this tensor.
      error: relative L2, ``|flax - torch| / |torch|``; NaN where there is nothing to compare.
      limit: what the error was held against.
      floor: the error that a rounding of torch's weights and inputs makes in torch itself, where it was measured.
      reason: why it is no PASS.
    """

    name: str
    verdict: Verdict
    error: float = math.nan
    limit: float = math.nan
    floor: float = math.nan
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Phase:
    """All tensors of one phase."""

    name: str
    leaves: tuple[Leaf, ...] = ()
    skipped: str = ""
    error: str = ""

    @property
    def verdict(self) -> Verdict:
        """ERROR or FAIL if one tensor has it; ABSTAIN only where no tensor passes."""
        if self.error:
            return Verdict.ERROR
        found = {leaf.verdict for leaf in self.leaves}
        if not found:
            return Verdict.SKIP
        for verdict in (Verdict.ERROR, Verdict.FAIL, Verdict.PASS):
            if verdict in found:
                return verdict
        return Verdict.ABSTAIN

    @property
    def worst(self) -> Leaf | None:
        """The failing tensor with the largest error, else the passing one with it."""
        failed = [leaf for leaf in self.leaves if leaf.verdict is self.verdict]
        return max(failed, key=lambda leaf: -math.inf if math.isnan(leaf.error) else leaf.error, default=None)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A pair, phase by phase.

    Attributes:
      pair: its name.
      phases: in order.
      warnings: what the stimulus is too weak to show, and what was done to make the two comparable.
      bridge: the table of weights, as lines.
      facts: versions, seed, steps.
    """

    pair: str
    phases: tuple[Phase, ...]
    warnings: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """ERROR, FAIL or ABSTAIN if a phase has it, in this order; PASS if one passes."""
        found = {phase.verdict for phase in self.phases}
        for verdict in (Verdict.ERROR, Verdict.FAIL, Verdict.ABSTAIN, Verdict.PASS):
            if verdict in found:
                return verdict
        return Verdict.ERROR

    def phase(self, name: str) -> Phase:
        """The phase of a name."""
        return next(phase for phase in self.phases if phase.name == name)

    def failing(self, name: str) -> list[Leaf]:
        """The tensors of a phase that fail."""
        found = [leaf for phase in self.phases if phase.name == name for leaf in phase.leaves]
        return [leaf for leaf in found if leaf.verdict is Verdict.FAIL]


def relative(array: np.ndarray, reference: np.ndarray) -> float:
    """``|array - reference| / |reference|`` in L2; 0 for two zeros, infinite where only the reference is zero.

    NaN in the same places of both counts as equal, anywhere else the error is infinite.
    """
    array, reference = np.asarray(array, np.float64), np.asarray(reference, np.float64)
    if array.shape != reference.shape:
        return math.inf
    finite = np.isfinite(reference)
    if not finite.all() or not np.isfinite(array).all():
        if (
            not np.array_equal(array[~finite], reference[~finite], equal_nan=True)
            or not np.isfinite(array[finite]).all()
        ):
            return math.inf
        array, reference = array[finite], reference[finite]
    scale = float(np.linalg.norm(reference))
    distance = float(np.linalg.norm(array - reference))
    return distance / scale if scale else 0.0 if distance == 0 else math.inf


def judge(
    torch: Recording,
    flax: Recording,
    bridge: Bridge | None = None,
    perturbed: Recording | None = None,
    *,
    limits: Mapping[str, float] | None = None,
    floors: Mapping[str, float] | None = None,
) -> tuple[Phase, ...]:
    """Every phase of two recordings.

    Args:
      torch, flax: the reference and the port.
      bridge: joins torch's terms that the port keeps as one; without it names are taken as they are.
      perturbed: torch with weights and inputs that rounding could have changed.
      limits: phase -> threshold, instead of `ONE_STEP` and `LIMITS`.
      floors: ``phase/leaf`` -> the error that such a rounding makes, in place of ``perturbed``.
    """
    limits = dict.fromkeys(PHASES, ONE_STEP) | LIMITS | dict(limits or {})
    phases, still = [], set()
    for name in PHASES:
        reasons = [facts["skipped"].get(name) for facts in (torch.facts, flax.facts)]
        mine, theirs = _phase(flax, name, None), _phase(torch, name, bridge)
        skipped = next(filter(None, reasons), "") if not (mine and theirs) else ""
        if skipped or not (mine or theirs):
            phases.append(Phase(name, skipped=skipped or "neither side has it"))
            continue
        shaken = _phase(perturbed, name, bridge) if perturbed else {}
        if name == "optimizer_state":
            mine, theirs, shaken = _paired_slots(mine, theirs, shaken)
        scale = _norm(theirs.values())
        held = bridge.held if bridge else frozenset()
        leaves = [
            _leaf(
                leaf,
                mine.get(leaf),
                theirs.get(leaf),
                _floor(shaken.get(leaf), theirs.get(leaf), (floors or {}).get(f"{name}/{leaf}", math.nan)),
                limits[name],
                STRUCTURAL_ZERO * scale
                if name == "parameter_gradients"
                else STILL * scale * (_parameter(name, leaf) in still),
            )
            for leaf in _order(theirs, mine)
            if leaf not in held
        ]
        if name == "parameter_gradients":
            still = {leaf.name for leaf in leaves if leaf.reason == NO_GRADIENT}
        phases.append(Phase(name, tuple(leaves)))
    return tuple(phases)


def _phase(recording: Recording, name: str, bridge: Bridge | None) -> Mapping[str, np.ndarray]:
    """The tensors of a phase; of several updates those of every step, under ``step/key``."""
    if bridge is None:
        return View(recording.tensors, recording.phase(name))
    found = {leaf: recording.tensors[key] for leaf, key in recording.phase(name).items()}
    if name in ("optimizer", "updates"):
        merged = {leaf: value for leaf, value in found.items() if "/" not in leaf}
        for step in sorted({leaf.split("/", 1)[0] for leaf in found if "/" in leaf}, key=int):
            own = {leaf.split("/", 1)[1]: value for leaf, value in found.items() if leaf.startswith(f"{step}/")}
            merged |= {f"{step}/{leaf}": value for leaf, value in bridge.merged(own).items()}
        return merged
    if name == "optimizer_state":
        slots: dict[str, dict[str, np.ndarray]] = {}
        for leaf, value in found.items():
            key, slot = leaf.rsplit(".", 1)
            slots.setdefault(slot, {})[key] = value
        return {
            f"{key}.{slot}": value
            for slot, values in slots.items()
            for key, value in bridge.merged(values, "gradient").items()
        }
    return bridge.merged(found, "gradient" if name == "parameter_gradients" else "value")


def _parameter(phase: str, leaf: str) -> str:
    """Whose change or state a tensor is."""
    if phase == "optimizer_state":
        return leaf.rpartition(".")[0]
    return leaf.partition("/")[2] if phase == "updates" else leaf


def _order(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [*first, *(name for name in second if name not in first)]


def _norm(arrays: Iterable[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(array).sum()) for array in arrays))


def _floor(shaken: np.ndarray | None, theirs: np.ndarray | None, known: float) -> float:
    return known if shaken is None or theirs is None else relative(shaken, theirs)


def _leaf(
    name: str,
    mine: np.ndarray | None,
    theirs: np.ndarray | None,
    floor: float,
    limit: float,
    zero: float,
) -> Leaf:
    if mine is None or theirs is None:
        missing = "the port" if mine is None else "torch"
        return Leaf(name, Verdict.FAIL, math.inf, limit, reason=f"{missing} has no such tensor")
    if mine.shape != theirs.shape:
        reason = f"torch's shape is {theirs.shape}, the port's {mine.shape}"
        return Leaf(name, Verdict.FAIL, math.inf, limit, reason=reason)
    error = relative(mine, theirs)
    if zero and max(_norm([mine]), _norm([theirs])) <= zero:
        return Leaf(name, Verdict.ABSTAIN, error, limit, floor, NO_GRADIENT)
    if error <= limit:
        return Leaf(name, Verdict.PASS, error, limit, floor)
    if error <= SLACK * floor:
        reason = (
            "rounding alone changes torch's own result as much "
            "(a structurally zero gradient, or an input on a kink or a tie)"
        )
        return Leaf(name, Verdict.ABSTAIN, error, limit, floor, reason)
    return Leaf(name, Verdict.FAIL, error, limit, floor, _describe(mine, theirs, error))


def _describe(mine: np.ndarray, theirs: np.ndarray, error: float) -> str:
    """What the difference looks like at first sight."""
    if not np.isfinite(mine).all() and np.isfinite(theirs).all():
        return f"the port's is not finite in {int((~np.isfinite(mine)).sum())} of {mine.size} places"
    if not math.isfinite(error):
        return "torch's is zero, the port's is not" if not theirs.any() else "not finite"
    if not mine.any():
        return "the port's is zero, torch's is not"
    factor = float(np.vdot(mine, theirs) / np.vdot(theirs, theirs))
    if relative(mine, factor * theirs) < 1e-6 and abs(factor) > 1e-12:
        return f"{factor:.7g} times torch's"
    return ""


# torch's name of what an optimizer keeps -> optax's and jaxdl's.
SLOTS: Mapping[str, tuple[str, ...]] = {
    "exp_avg": ("mu", "m", "exp_avg"),
    "exp_avg_sq": ("nu", "v", "exp_avg_sq"),
    "max_exp_avg_sq": ("nu_max", "max_exp_avg_sq"),
    "momentum_buffer": ("trace", "momentum_buffer", "momentum"),
    "square_avg": ("nu", "square_avg"),
    "grad_avg": ("mu", "grad_avg"),
    "sum": ("sum_of_squares", "sum"),
    "exp_inf": ("nu", "exp_inf"),
    "acc_delta": ("e_x", "acc_delta"),
}


def _paired_slots(
    mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], shaken: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The port's slots under torch's names: by the table, else the one that is nearest up to its scale.

    optax keeps some slots multiplied by a constant (the trace of rmsprop by the rate), others divided by one; a
    slot without counterpart is not compared, as its effect on the updates is.
    """
    ours: dict[str, dict[str, np.ndarray]] = {}
    for name, value in mine.items():
        key, slot = name.rsplit(".", 1)
        ours.setdefault(key, {})[slot] = value
    found, kept = {}, {}
    for name, value in theirs.items():
        key, slot = name.rsplit(".", 1)
        candidates = {own: array for own, array in ours.get(key, {}).items() if array.shape == value.shape}
        named = [own for own in SLOTS.get(slot, (slot,)) if own in candidates]
        own = named[0] if named else min(candidates, key=lambda c: _angle(candidates[c], value), default=None)
        if own is None:
            continue
        array = candidates.pop(own)
        scaled = (
            slot == "momentum_buffer" and relative(array, value) > ONE_STEP and _angle(array, value) < ONE_STEP
        )
        found[name] = array * (np.vdot(array, value) / np.vdot(array, array)) if scaled else array
        kept[name] = value
        del ours[key][own]
    return found, kept, {name: value for name, value in shaken.items() if name in kept}


def _angle(array: np.ndarray, other: np.ndarray) -> float:
    """How far two arrays are from being multiples of each other, 0 to 1."""
    squares = float(np.vdot(array, array) * np.vdot(other, other))
    if not squares:
        return 0.0 if not array.any() and not other.any() else 1.0
    factor = float(np.vdot(array, other) / np.vdot(other, other))
    return min(1.0, float(np.linalg.norm(array - factor * other)) / float(np.linalg.norm(array)))


def stimulus(
    facts: Mapping[str, Any], batches: Sequence[tuple[Mapping[Any, np.ndarray], Sequence[np.ndarray]]]
) -> list[str]:
    """What the inputs are too weak to show."""
    found = []
    inputs, targets = batches[0]
    for key, value in inputs.items():
        if value.dtype.kind != "f":
            continue
        if value.std() == 0:
            found.append(f"input {key} is constant: it shows next to nothing")
        elif abs(value.mean()) < 0.1 * value.std():
            found.append(
                f"input {key} has mean zero, which hides a variance computed as E[x^2] - E[x]^2; shift it"
            )
        if (
            value.ndim == 4
            and value.std() > 0
            and any(np.array_equal(value, np.flip(value, axis)) for axis in (2, 3))
        ):
            found.append(
                f"the images of input {key} are symmetric: they hide a mirrored or transposed convolution"
            )
    if any(len(value) == 1 for value in inputs.values() if value.ndim):
        found.append("a batch of one hides sums taken for means, and BatchNorm over the wrong axes")
    if any(value.ndim == 3 and 1 in value.shape[:2] for value in inputs.values()):
        found.append("one step in time hides the order of a recurrence")
    if len(batches) > 1 and all(
        np.array_equal(value, again) for value, again in zip(inputs.values(), batches[1][0].values(), strict=True)
    ):
        found.append("all batches are alike: they hide faults of momentum and of the order of data")
    for value in targets:
        if value.dtype.kind in "iu" and value.ndim == 1 and len(np.unique(value)) == 1 and len(value) > 1:
            found.append("all labels are alike: they hide class weights")
    rates = facts.get("rates") or []
    if facts.get("scheduled") and len({tuple(rate) for rate in rates}) == 1:
        found.append(
            f"the learning rate never changes in {len(rates)} updates: the schedule is not tested; give more steps"
        )
    if facts.get("clipped") is False:
        found.append("clipping never acts on these gradients: it is not tested")
    return found


def dropout(torch_calls: list[dict[str, Any]], port_calls: list[dict[str, Any]]) -> list[str]:
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
