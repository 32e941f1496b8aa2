"""How the axes of a torch array may lie in a Flax variable: the ways its shape allows, the likeliest first."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from jaxdl.nn.layout import Layout
from parity.links import SAME, TRANSPOSED, FlaxLeaf, Rule, Source, Way

NORMS = (
    *(f"{name}{rank}" for name in ("BatchNorm", "InstanceNorm") for rank in ("1d", "2d", "3d")),
    "SyncBatchNorm",
    "LayerNorm",
    "GroupNorm",
    "RMSNorm",
)
# Flax's own classes say how the axes lie; what somebody else wrote has to be probed.
MATRICES = ("Linear", "LinearGeneral", "Dense", "DenseGeneral")
KNOWN = (*MATRICES, "Conv", "ConvTranspose", "ConvLocal", "Embed")
# More would take long to probe, and no port lays its axes so.
MOST = 8


def ways(kind: str, local: str, source: Source, leaf: FlaxLeaf) -> tuple[Way, ...]:
    """The ways from a torch array to a Flax variable that fit the shapes, the one its class means first.

    Args:
      kind: of the torch module.
      local: name of the parameter there.
      source, leaf: the two.
    """
    shape = source.cut
    if leaf.layout:
        return (Way(layout=leaf.layout),) if _layout_fits(leaf, shape) else ()
    if math.prod(shape) != math.prod(leaf.shape):
        return ()
    if len(_large(shape)) < 2:
        return (_plain(shape, leaf.shape),)
    if kind == "Linear" and leaf.kind in MATRICES:
        return (TRANSPOSED,) if _splits(shape[::-1], leaf.shape) else ()
    fitting = [way for way in _candidates(kind, local, source, leaf) if _fits(way, shape, leaf.shape)]
    found = tuple(dict.fromkeys(fitting))[:MOST]
    return found[:1] if leaf.kind in KNOWN else found


def rule_ways(rule: Rule, kind: str, local: str, source: Source, leaf: FlaxLeaf) -> tuple[Way, ...]:
    """The same where a rule may say more."""
    if rule.flatten:
        channels, height, width = rule.flatten
        fits = len(source.cut) == 2 and channels * height * width == source.cut[1]
        fits = fits and leaf.shape == (source.cut[1], source.cut[0])
        return (flattened(rule.flatten, (1, 2, 0), source.cut[0]),) if fits else ()
    if rule.perm is not None:
        fits = sorted(rule.perm) == list(range(len(source.cut))) and math.prod(source.cut) == math.prod(leaf.shape)
        return (Way(tuple(rule.perm)),) if fits else ()
    return ways(kind, local, source, leaf)


def flattened(shape: Sequence[int], perm: Sequence[int], features: int) -> Way:
    """A Linear behind an image that torch flattens as it lies, (C, H, W), and the port in another order of axes.

    Args:
      shape: of torch's image.
      perm: its axes in the port's order; (1, 2, 0) for (H, W, C).
      features: of the Linear's output.
    """
    split = (*(shape[axis] for axis in perm), features)
    back = tuple(int(axis) for axis in np.argsort(perm))
    return Way(layout=Layout((len(shape), *back), split=split, joined=(1, len(shape))))


def flat_images(width: int, shapes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The images (C, H, W), or of another rank, that are as wide when they are flattened.

    Args:
      width: of a Linear's input.
      shapes: (B, C, ...) of what torch's layers take and return.
    """
    own = dict.fromkeys(tuple(shape[1:]) for shape in shapes if len(shape) > 2)
    found = [shape for shape in own if math.prod(shape) == width and shape[0] > 1 and math.prod(shape[1:]) > 1]
    # Pooling by a function leaves no call behind it: squares of what is left of the width for each channel.
    channels = {shape[0] for shape in own}
    sides = {count: math.isqrt(width // count) for count in channels if count > 1 and width % count == 0}
    found += [(count, side, side) for count, side in sides.items() if side > 1 and count * side * side == width]
    return list(dict.fromkeys(found))


def _candidates(kind: str, local: str, source: Source, leaf: FlaxLeaf) -> Iterator[Way]:
    rank = len(source.cut)
    space = tuple(range(2, rank))
    others = itertools.islice(itertools.permutations(range(rank)), 1, None) if rank <= 5 else ()
    if kind.startswith("ConvTranspose") and local == "weight":
        # transpose_kernel=True: Flax mirrors and exchanges as torch does; without it the kernel runs backwards.
        mirrored = [Way((*space, 1, 0)), Way((*space, 0, 1), space)]
        yield from mirrored if leaf.transposed else reversed(mirrored)
    elif kind.startswith("Conv") and kind != "Conv1D" and local == "weight":
        yield Way((*space, 1, 0))
        if len(leaf.shape) == 2:
            yield Way((1, *space, 0))
    elif kind in ("Embedding", "EmbeddingBag", "Conv1D"):
        yield SAME
    elif kind == "Linear":
        yield from (TRANSPOSED, SAME)
    elif kind in NORMS:
        yield from (SAME, Way((*range(1, rank), 0)))
    yield SAME
    yield Way(tuple(reversed(range(rank))))
    yield from map(Way, others)


def _layout_fits(leaf: FlaxLeaf, shape: tuple[int, ...]) -> bool:
    assert leaf.layout
    try:
        leaf.layout.from_torch(np.broadcast_to(np.float32(0), shape), leaf.shape)
    except ValueError:
        return False
    return True


def _plain(shape: Sequence[int], wanted: Sequence[int]) -> Way:
    """For arrays with one axis at most that is longer than one."""
    return SAME if len(shape) != len(wanted) or tuple(shape) == tuple(wanted) else Way(_sorting(shape, wanted))


def _sorting(shape: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    perms = itertools.permutations(range(len(shape)))
    return next(perm for perm in perms if tuple(shape[axis] for axis in perm) == tuple(wanted))


def _large(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _fits(way: Way, shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether the axes have these sizes, or, for a convolution taken as a matrix, all but the last joined have."""
    moved = tuple(shape[axis] for axis in way.perm) if way.perm else tuple(shape)
    joined = len(shape) > 2 == len(wanted) and way.perm and (math.prod(moved[:-1]), moved[-1]) == tuple(wanted)
    return _large(moved) == _large(wanted) or bool(joined)


def _splits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether splitting the two axes of a matrix gives the wanted shape (heads and their size)."""
    return any((math.prod(wanted[:cut]), math.prod(wanted[cut:])) == tuple(shape) for cut in range(1, len(wanted)))
