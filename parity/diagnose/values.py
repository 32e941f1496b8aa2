"""What can be seen in values alone: fewer digits, a factor, other axes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from parity.align import error
from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.functions import ACTIVATIONS
from parity.torch_side import outputs
from parity.verdict import relative


def numbers(made: Any) -> list[np.ndarray]:
    """The floating-point arrays in what a torch module took or returned."""
    return [x.detach().double().numpy() for x in outputs(made).values() if x.is_floating_point()]


def stacked(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """All arrays as one vector, by name."""
    return np.concatenate([np.ravel(values[name]) for name in sorted(values)])


def multiple(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The factor that brings ``theirs`` nearest to ``mine``."""
    return float(np.vdot(mine, theirs) / np.vdot(theirs, theirs)) if theirs.any() else math.nan


def precision(name: str, made: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Iterator[Candidate]:
    """Whether what a port makes has no more digits than a smaller type holds."""
    for kind in ("bfloat16", "float16", "float32"):
        dtype = getattr(torch, kind)
        kept = all(np.array_equal(torch.tensor(x).to(dtype).double().numpy(), x) for x in made)
        near = error(made, theirs) < 20 * torch.finfo(dtype).eps
        fix = f"{name} rounds to {kind}: let it compute in the type of its input"
        yield Explanation(f"{kind} layer", fix), 0.0 if kept and near else math.inf
        if kept:
            return


def arriving(name: str, mine: np.ndarray, theirs: np.ndarray) -> Iterator[Candidate]:
    """What was done to the values that reach a layer."""
    if mine.shape != theirs.shape:
        return
    factor = multiple(mine, theirs)
    fix = f"what reaches {name} is {factor:.6g} times torch's"
    yield Explanation("input scale", fix), relative(mine, factor * theirs)
    for title, activation in ACTIVATIONS.items():
        fix = f"no {title} in front of {name}: torch has none"
        yield Explanation("other activation", fix), relative(mine, activation(torch.tensor(theirs)).numpy())
    half = theirs.shape[-1] // 2
    fix = "concatenate in torch's order"
    yield Explanation("concatenation order", fix), relative(mine, np.roll(theirs, half, -1))
    if theirs.ndim == 3:
        fix = f"turn the time back: what reaches {name} runs backwards"
        turned = theirs.copy()
        turned[..., half:] = turned[:, ::-1, half:]
        yield Explanation("time reversed", fix), min(relative(mine, turned), relative(mine, theirs[:, ::-1]))
    if theirs.ndim == 4:
        square = theirs.shape[2] == theirs.shape[3]
        turned = relative(mine, theirs.swapaxes(2, 3)) if square else math.inf
        yield Explanation("input height and width", "exchange height and width"), turned
        yield Explanation("input channels", "reverse the order of channels"), relative(mine, theirs[:, ::-1])
        for axis in (2, 3):
            yield Explanation("input mirrored", "do not mirror the images"), relative(mine, np.flip(theirs, axis))
