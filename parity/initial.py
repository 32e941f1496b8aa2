"""Initial weights: whether every parameter is drawn from the same distribution on both sides, over many seeds.

Values that are the same for every seed have to be equal. The others are pooled over the seeds and judged by four
tests: Kolmogorov-Smirnov, means (Welch), spreads (Brown-Forsythe), and how many values lie beyond all of the other
side's. The values of a tensor are taken as independent.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from scipy import stats

from parity import torch_side
from parity.bridge import Bridge, BridgeError, Group, infer
from parity.flax_side import FlaxSide
from parity.pair import Pair, PairError
from parity.verdict import Judgement, Leaf, Phase, Verdict

# The chance that a correct pair fails, all its tensors and tests together (Bonferroni).
LEVEL = 1e-3
TESTS = 4
POOLED = 20_000  # values of a tensor that are kept at most, over all seeds
SIGMA_CUT = 0.8796256610342398  # the standard deviation of a standard normal that is cut at +-2


@dataclasses.dataclass(frozen=True)
class Spread(Leaf):
    """A parameter over many seeds: `error` is the Kolmogorov-Smirnov distance, `limit` the level of a test.

    Attributes:
      torch, port: the distributions, as ``U(-0.0357, 0.0357)``.
      p: the smallest p-value of the tests; NaN where the values are constant.
      fix: what gives the port torch's distribution, where that is known.
    """

    torch: str = ""
    port: str = ""
    p: float = math.nan
    fix: str = ""


@dataclasses.dataclass
class _Seen:
    """What a tensor was like in all seeds so far.

    Attributes:
      first: its values under the first seed, flat.
      still: where no seed has changed them.
      places: of the values that are kept of each seed.
    """

    first: np.ndarray
    still: np.ndarray
    places: np.ndarray
    kept: list[np.ndarray]

    def see(self, value: np.ndarray) -> None:
        flat = np.ravel(value).astype(np.float32)
        self.still &= flat == self.first
        self.kept.append(flat[self.places])

    def pooled(self) -> np.ndarray:
        """The values of places that move, of all seeds."""
        moving = ~self.still[self.places]
        return np.concatenate([values[moving] for values in self.kept]).astype(np.float64)


def check(pair: Pair, *, seeds: int = 100) -> Judgement:
    """Compares the distributions of all initial parameters and buffers.

    Both modules are made again for every seed: torch's after ``torch.manual_seed(s)``, an NNX port by
    ``pair.flax(s)``, a linen port by ``init(key(s), ...)``.

    Args:
      pair: its makers; batches, losses and optimizers play no part.
      seeds: how many; each tensor needs some hundred values, so small ones need many seeds.

    Returns:
      One phase, its tensors `Spread`; where the two cannot be made or matched, one phase with the ERROR. A correct
      pair fails with a chance of at most `LEVEL`.
    """
    try:
        if seeds < 2:
            raise PairError(f"expected at least 2 seeds, got {seeds}")
        groups, bridge = _table(pair)
        theirs = _watch(_torch_draws(pair, bridge, seeds), seeds)
        ours = _watch(_port_draws(pair, bridge, seeds), seeds)
        _alive(theirs, "torch", "draw from torch's global generator, which torch.manual_seed sets")
        _alive(ours, "the port", "write flax=lambda seed=0: Net(rngs=nnx.Rngs(seed))")
    except (PairError, BridgeError) as error:
        return Judgement(pair.name, (Phase("initial", error=str(error)),))
    about = {group.key(leaf): (group, leaf) for group in groups for leaf in group.leaves}
    shared = [name for name in theirs if name in ours]
    level = LEVEL / (TESTS * max(1, len(shared)))
    leaves = tuple(_leaf(name, theirs[name], ours[name], level, *about[name.split(" + ")[0]]) for name in shared)
    facts = {"seeds": seeds, "level": LEVEL, "versions": {"torch": torch.__version__, "jax": jax.__version__}}
    return Judgement(pair.name, (Phase("initial", leaves),), (), tuple(bridge.lines()), facts)


def _table(pair: Pair) -> tuple[list[Group], Bridge]:
    if hasattr(pair.torch, "state_dict") and not isinstance(pair.torch, type):
        raise PairError("pair.torch is a module that is already made: give a function that makes it, torch=Net")
    with torch.random.fork_rng(devices=[]):
        module = pair.torch_module()
    groups = torch_side.describe(module)
    port = _side(pair, 0)
    bridge = infer(groups, port.leaves, tied=torch_side.tied(module), rules=pair.rules, ignore=pair.ignore)
    return groups, bridge


def _side(pair: Pair, seed: int) -> FlaxSide:
    """The port as it is born under a seed, in float32.

    Raises:
      PairError: its maker takes no seed, or there is no maker.
    """
    hint = "write flax=lambda seed=0: Net(rngs=nnx.Rngs(seed))"
    if isinstance(pair.flax, nnx.Module):
        raise PairError(f"pair.flax is a module that is already made: {hint}")
    takes = not isinstance(pair.flax, linen.Module) and _takes_seed(pair.flax)
    module = pair.flax_module(seed if takes else None)
    if isinstance(module, nnx.Module) and not takes:
        raise PairError(f"the maker of the port takes no seed: {hint}")
    return FlaxSide(pair, module, pair.batch(0, 0)[0], dtype=jnp.float32, seed=seed)


def _takes_seed(maker: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(maker).parameters)
    except (TypeError, ValueError):  # a callable without signature
        return False


def _torch_draws(pair: Pair, bridge: Bridge, seeds: int) -> Iterator[dict[str, np.ndarray]]:
    with torch.random.fork_rng(devices=[]):
        for seed in range(seeds):
            torch.manual_seed(seed)
            values = bridge.merged(torch_side.state(pair.torch_module()))
            yield {name: value for name, value in values.items() if name not in bridge.tied}


def _port_draws(pair: Pair, bridge: Bridge, seeds: int) -> Iterator[dict[str, np.ndarray]]:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for seed in range(seeds):
            yield bridge.to_torch(_side(pair, seed).variables())


def _watch(draws: Iterator[dict[str, np.ndarray]], seeds: int) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    rng = np.random.default_rng(0)
    for values in draws:
        for name, value in values.items():
            if name not in seen:
                flat = np.ravel(value).astype(np.float32)
                places = rng.permutation(flat.size)[: max(1, POOLED // seeds)]
                seen[name] = _Seen(flat, np.ones(flat.size, bool), places, [])
            seen[name].see(value)
    return seen


def _alive(seen: Mapping[str, _Seen], side: str, hint: str) -> None:
    """Raises where nothing depends on the seed although the values look random."""
    random = [name for name, one in seen.items() if len(np.unique(one.first)) > 2]
    if random and all(one.still.all() for one in seen.values()):
        raise PairError(f"{side} has the same weights under every seed ({random[0]}, ...): {hint}")


def _leaf(name: str, theirs: _Seen, ours: _Seen, level: float, group: Group, local: str) -> Spread:
    both = theirs.still & ours.still
    a, b = theirs.pooled(), ours.pooled()
    names: dict[str, Any] = {
        "torch": describe(theirs.first[theirs.still], a),
        "port": describe(ours.first[ours.still], b),
    }
    reason, p, distance = "", math.nan, math.nan
    if not np.array_equal(theirs.still, ours.still):
        fixed, free = ("torch", "the port") if theirs.still.sum() > ours.still.sum() else ("the port", "torch")
        reason = f"values that {fixed} fills with constants {free} draws at random"
    elif not np.array_equal(theirs.first[both], ours.first[both]):
        reason = "the constants differ"
    elif a.size and b.size:
        distance, found = compare(a, b)
        test = min(found, key=lambda test: found[test])
        p = found[test]
        reason = f"{test}, p = {p:.1g}" if p < level else ""
    if not reason:
        return Spread(name, Verdict.PASS, distance, level, **names, p=p)
    fix = fix_of(group, local, names["torch"], names["port"])
    told = f"torch {names['torch']}, port {names['port']}: {reason}" + (f"; {fix}" if fix else "")
    return Spread(name, Verdict.FAIL, distance, level, reason=told, **names, p=p, fix=fix)


def compare(a: np.ndarray, b: np.ndarray) -> tuple[float, dict[str, float]]:
    """The distance of two samples, and the p-values of four tests that they come from one distribution."""
    shape: Any = stats.ks_2samp(a, b, method="asymp")
    middle_a, middle_b = np.median(a), np.median(b)
    found = {
        "the distributions differ": float(shape.pvalue),
        "the means differ": _welch(a, b),
        "the spreads differ": _welch(np.abs(a - middle_a), np.abs(b - middle_b)),
        "the ranges differ": min(1.0, 4 * min(_beyond(x, y) for x, y in ((a, b), (b, a), (-a, -b), (-b, -a)))),
    }
    return float(shape.statistic), found


def _welch(a: np.ndarray, b: np.ndarray) -> float:
    if a.size < 2 or b.size < 2 or not (np.ptp(a) or np.ptp(b)):
        return 1.0
    test: Any = stats.ttest_ind(a, b, equal_var=False)
    return float(test.pvalue)


def _beyond(a: np.ndarray, b: np.ndarray) -> float:
    """The chance that as many of ``a`` as there are exceed all of ``b``, when every order is as likely."""
    count = int((a > b.max()).sum())
    return math.exp(count * math.log(a.size / (a.size + b.size)))


def describe(constants: np.ndarray, values: np.ndarray) -> str:
    """A distribution in the words of those who write initialisers, of values that move and those that do not."""
    fixed = np.unique(constants)
    if fixed.size and not values.size:
        return (
            f"constant {fixed[0]:.4g}" if fixed.size == 1 else f"constants from {fixed[0]:.4g} to {fixed[-1]:.4g}"
        )
    rest = f", and constant {', '.join(f'{value:.4g}' for value in fixed[:3])} in places" if fixed.size else ""
    return _family(values) + rest


def _family(values: np.ndarray) -> str:
    mean, std, low, high = values.mean(), values.std(), values.min(), values.max()
    if values.size < 50 or not std:
        return f"mean {mean:.3g}, std {std:.3g} in {values.size} values"
    centred = abs(mean) < 4 * std / math.sqrt(values.size)
    middle, bound = (0.0, max(-low, high)) if centred else (mean, (high - low) / 2)
    ends = (-bound, bound) if centred else (low, high)
    cut = std / SIGMA_CUT
    families = {
        f"U({ends[0]:.3g}, {ends[1]:.3g})": stats.uniform(ends[0], ends[1] - ends[0]),
        f"N({middle:.3g}, {std:.3g})": stats.norm(middle, std),
        f"N({middle:.3g}, {cut:.3g}) cut at 2 sigma": stats.truncnorm(-2, 2, middle, cut),
    }
    distances = {name: stats.kstest(values, family.cdf).statistic for name, family in families.items()}
    best = min(distances, key=lambda name: distances[name])
    if distances[best] > max(0.03, 1.6 / math.sqrt(values.size)):
        return f"mean {mean:.3g}, std {std:.3g}, from {low:.3g} to {high:.3g}"
    return best


def fix_of(group: Group, leaf: str, theirs: str, ours: str) -> str:
    """What gives a layer of the port torch's distribution; empty where no known difference explains it.

    Args:
      group, leaf: the torch module and its parameter.
      theirs, ours: the two distributions, as `describe` names them.
    """
    if "cut at 2 sigma" in ours and theirs.startswith("N("):
        return "torch's trunc_normal_ cuts at +-2, not at 2 sigma: use nnx.initializers.normal(std)"
    shape = group.leaves[leaf]
    if group.kind == "Linear" or group.kind.startswith("Conv"):
        return _uniform_fix(group, leaf, theirs)
    if group.kind in ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"):
        return "torch draws it all from U(+-1/sqrt(hidden)): set kernel_init, recurrent_kernel_init, bias_init"
    if group.kind == "MultiheadAttention" and leaf.startswith("in_proj_weight"):
        return (
            'torch draws q, k, v as one: kernel_init=nnx.initializers.variance_scaling(0.5, "fan_in", "uniform")'
        )
    if group.kind in ("Embedding", "EmbeddingBag") and theirs.startswith("N(0, "):
        return "torch's Embedding is N(0, 1): embedding_init=nnx.initializers.normal(1.0)"
    if group.kind == "PReLU" and shape:
        return "torch's slope starts at 0.25: nnx.PReLU(negative_slope_init=0.25)"
    return ""


def _uniform_fix(group: Group, leaf: str, theirs: str) -> str:
    """torch's ``kaiming_uniform_(a=sqrt(5))``: 1/sqrt(fan_in) bounds the weight and the bias."""
    weight = group.leaves.get("weight", ())
    if not theirs.startswith("U(") or len(weight) < 2:
        return ""
    bound = 1 / math.sqrt(math.prod(weight[1:]))
    if not math.isclose(float(theirs.removesuffix(")").split(", ")[1]), bound, rel_tol=0.02):
        return ""
    if leaf != "weight":
        return (
            f"bias_init=lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -{bound:.6g}, {bound:.6g})"
        )
    return 'kernel_init=nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), or jaxdl.nn\'s own layers'
