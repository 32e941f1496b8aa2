"""Weights: what a conversion did to torch's to make the port's."""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from parity.diagnose.explanation import Candidate, Explanation
from parity.locate import Fault
from parity.prove import Subject
from parity.verdict import relative

Made = Iterator[tuple[Explanation, np.ndarray]]


def candidates(fault: Fault, subject: Subject) -> Iterator[Candidate]:
    """For a weight that differs."""
    theirs, mine = _both(subject)
    if fault.place in mine:
        yield from explain_weight(fault.place, mine[fault.place], theirs)


def candidates_of_layer(fault: Fault, subject: Subject) -> Iterator[Candidate]:
    """For a layer whose own weights differ: their faults, as its output follows from them."""
    theirs, mine = _both(subject)
    prefix = f"{fault.place}." if fault.place else ""
    for name, value in mine.items():
        own = name.startswith(prefix) and "." not in name.removeprefix(prefix)
        if own and relative(value, theirs[name]) > 1e-12:
            yield from explain_weight(name, value, theirs)


def _both(subject: Subject) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return subject.bridge.merged(subject.weights), subject.bridge.to_torch(subject.flax.variables())


def explain_weight(name: str, mine: np.ndarray, theirs: Mapping[str, np.ndarray]) -> Iterator[Candidate]:
    """What was done to torch's weight ``name`` to make the port's.

    Args:
      name: torch's key.
      mine: the port's array, with torch's axes.
      theirs: all of torch's weights.
    """
    for explanation, made in _changes(name, theirs):
        yield explanation, relative(mine, made)


def _changes(name: str, theirs: Mapping[str, np.ndarray]) -> Made:
    own = theirs[name]
    if own.ndim == 2:
        yield Explanation("transposed weight", f"transpose {name}: torch keeps (out, in)"), own.T
        fix = f"reorder the columns of {name}: torch flattens (C, H, W), the port another order"
        for made in reflattened(own):
            yield Explanation("flatten order", fix), made
    if own.ndim == 4:
        fix = f"do not flip {name}: both compute correlations"
        yield Explanation("mirrored kernel", fix), own[:, :, ::-1, ::-1]
        yield Explanation("kernel height and width", f"permute {name} to (H, W, in, out)"), own.swapaxes(2, 3)
        yield Explanation("transposed weight", f"exchange the channels of {name}"), own.swapaxes(0, 1)
    yield from _reordered(name, own)
    if name.endswith("bias"):
        yield Explanation("missing bias", f"carry {name} over"), np.zeros_like(own)
    if name.endswith(("running_var", "running_mean")):
        fresh = np.ones_like(own) if name.endswith("var") else np.zeros_like(own)
        yield Explanation("running statistics not loaded", f"carry {name} over"), fresh
    yield from _rounded(name, own)
    for other, value in theirs.items():
        if other != name and value.shape == own.shape:
            yield Explanation(_whose(name, other), f"{name} holds torch's {other}"), value


def reflattened(weight: np.ndarray) -> Iterator[np.ndarray]:
    """A matrix behind a flattened image, its columns in the orders of other flattenings, there and back."""
    rows, columns = weight.shape
    for shape in images(columns):
        for order in itertools.permutations(range(3)):
            there = weight.reshape(rows, *shape).transpose(0, *(1 + axis for axis in order))
            yield there.reshape(weight.shape)
            back = weight.reshape(rows, *(shape[axis] for axis in order))
            yield back.transpose(0, *(1 + axis for axis in np.argsort(order))).reshape(weight.shape)


def images(size: int) -> Iterator[tuple[int, int, int]]:
    """(C, H, W) of images with so many values and more than one channel, square ones first; at most about 40."""
    square = [
        (size // side**2, side, side)
        for side in range(2, math.isqrt(size) + 1)
        if size % side**2 == 0 and size // side**2 > 1
    ]
    oblong = (
        (size // (height * width), height, width)
        for height in range(2, min(size, 33))
        for width in range(2, min(size // height, 33) + 1)
        if size % (height * width) == 0 and height != width and size // (height * width) > 1
    )
    yield from square
    yield from itertools.islice(oblong, max(0, 40 - len(square)))


def _reordered(name: str, own: np.ndarray) -> Made:
    for count, names in ((4, "i, f, g, o"), (3, "r, z, n or q, k, v")):
        if own.shape[0] % count == 0 and own.shape[0] > count:
            parts = np.split(own, count)
            for order in itertools.permutations(range(count)):
                if order != tuple(range(count)):
                    fix = f"the parts of {name} are {names} in torch"
                    yield Explanation("gate order", fix), np.concatenate([parts[i] for i in order])


def _rounded(name: str, own: np.ndarray) -> Made:
    for kind in ("float16", "float32"):
        fix = f"{name} went through {kind}: convert from the original precision"
        yield Explanation("half precision weights", fix), own.astype(kind).astype(np.float64)
    fix = f"{name} went through bfloat16"
    yield Explanation("half precision weights", fix), torch.tensor(own).bfloat16().double().numpy()


def _whose(name: str, other: str) -> str:
    ends = {name.rpartition(".")[2], other.rpartition(".")[2]}
    if ends == {"running_mean", "running_var"}:
        return "running mean and variance"
    if ends == {"weight", "bias"}:
        return "norm weight and bias"
    return "weights of another layer"
