"""The weights of a torch module, and what is done to them before a comparison."""

from collections.abc import Mapping

import numpy as np
import torch

from parity.pair import Pair, PairError
from parity.torch_side.groups import tied


def state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The floating-point entries of the state_dict, float64.

    Raises:
      PairError: one holds NaN or infinity, or is complex.
    """
    found, problems = {}, []
    for name, value in module.state_dict().items():
        if value.is_complex():
            problems.append(f"{name} is complex, which is not supported")
        elif value.is_floating_point():
            found[name] = value.detach().double().cpu().numpy()
            bad = int((~np.isfinite(found[name])).sum())
            if bad:
                problems.append(f"{name} holds NaN or infinity ({bad} of {found[name].size} values)")
    if problems:
        raise PairError(f"torch weights: {'; '.join(problems)}")
    return found


def load(module: torch.nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """Overwrites the floating-point entries of the state_dict that are given."""
    with torch.no_grad():
        own = module.state_dict(keep_vars=True)
        for name, value in values.items():
            own[name].copy_(torch.as_tensor(np.asarray(value)))


def shaken(values: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Random values where all of a tensor are the same: a fresh norm's scale, a zero bias, running statistics."""
    rng, result = np.random.default_rng([seed, 3]), {}
    for name, value in values.items():
        constant = value.size > 0 and bool((value == value.flat[0]).all())
        noise = rng.standard_normal(value.shape)
        if not constant:
            result[name] = value
        elif name.endswith("running_var"):
            result[name] = value.flat[0] * np.exp(0.3 * noise)
        else:
            result[name] = value + 0.2 * noise
    return result


def starting(pair: Pair, module: torch.nn.Module, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights that a comparison starts with, float64, and what was done to them."""
    told = []
    floats = {
        str(value.dtype).removeprefix("torch.") for value in module.parameters() if value.is_floating_point()
    }
    if floats - {"float32", "float64"}:
        told.append(f"torch's weights are {', '.join(sorted(floats))}; they are taken into float64 as they are")
    weights = state(module)
    if pair.weights != "copy" or not pair.shake:
        return weights, told
    changed = shaken(weights, seed)
    count = sum(changed[name] is not weights[name] for name in weights)
    if count:
        told.append(f"{count} constant tensors (norm scales, zero biases, ...) got random values on both sides")
    return changed | {name: changed[first] for name, first in tied(module).items()}, told


def perturbed(values: Mapping[str, np.ndarray], seed: int, size: float) -> dict[str, np.ndarray]:
    """Every value changed by a relative error: what rounding alone could have made of it."""
    rng = np.random.default_rng([seed, 4])

    def moved(value: np.ndarray) -> np.ndarray:
        noise = np.asarray(rng.standard_normal(value.shape))  # changed in place: it may be large
        noise *= size
        noise += 1
        noise *= value
        return noise

    return {name: moved(value) for name, value in values.items()}
