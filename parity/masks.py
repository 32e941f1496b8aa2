"""Dropout masks that both frameworks share: the random streams of torch and JAX cannot be made to match."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from parity.align import align, orders


def draw(seed: int, step: int, call: int, shape: Sequence[int]) -> np.ndarray:
    """Uniform numbers in [0, 1) for a step's ``call``-th dropout; what lies below the rate's complement stays."""
    return np.random.default_rng([seed, step, 2, call]).random(tuple(shape))


def draws(
    seed: int,
    step: int,
    wanted: Sequence[Sequence[int]],
    torch: Sequence[Sequence[int]],
    flattened: Sequence[tuple[int, int, int]] = (),
    axes: Sequence[tuple[int, ...] | None] = (),
) -> list[np.ndarray]:
    """The numbers for every dropout of a Flax step: those of torch's call that it belongs to, with Flax's axes.

    Args:
      seed, step: as in torch's step.
      wanted: the shapes that the Flax side asks for.
      torch: the shapes that torch's side asked for.
      flattened: (H, W, C) of images that the port flattens in this order and torch as (C, H, W); dropout behind it
        is taken to be the first of as many features.
      axes: for each call the order of torch's axes, where it is known; see `parity.probe.settle_masks`.
    """
    found, images = [], list(flattened)
    for call, (shape, place) in enumerate(zip(wanted, matched(wanted, torch), strict=True)):
        if place is None:  # torch has no such call: numbers of its own
            found.append(draw(seed, step, len(torch) + call, shape))
            continue
        theirs, order = torch[place], axes[call] if call < len(axes) else None
        numbers = draw(seed, step, place, theirs)
        image = next((image for image in images if tuple(shape) == (shape[0], math.prod(image))), None)
        if image and tuple(theirs) == tuple(shape):
            images.remove(image)
            height, width, channels = image
            numbers = numbers.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(shape)
        found.append(align(numbers, shape) if order is None else numbers.transpose(order))
    return found


def matched(wanted: Sequence[Sequence[int]], torch: Sequence[Sequence[int]]) -> list[int | None]:
    """For each dropout of a Flax step torch's: the one in the same place, or the first of the shape that is free.

    A port may compute two branches in another order.
    """
    fits = [[next(orders(theirs, shape), None) is not None for theirs in torch] for shape in wanted]
    found = [call if call < len(torch) and fits[call][call] else None for call in range(len(wanted))]
    for call, given in enumerate(found):
        if given is None:
            free = (place for place in range(len(torch)) if fits[call][place] and place not in found)
            found[call] = next(free, None)
    return found


@contextlib.contextmanager
def in_torch(seed: int, step: int) -> Iterator[list[dict[str, Any]]]:
    """While it lasts torch's dropout takes the shared masks; yields what it asked for, as it does."""
    import torch
    import torch.nn.functional as F

    calls: list[dict[str, Any]] = []

    def kept(x: Any, p: float, shape: Sequence[int]) -> Any:
        numbers = draw(seed, step, len(calls), shape)
        calls.append({"shape": list(shape), "rate": float(p)})
        return torch.as_tensor(numbers, device=x.device) < 1 - p

    def dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not training or p == 0:
            return x
        mask = kept(x, p, x.shape)
        scaled = torch.where(mask, x / (1 - p), torch.zeros_like(x)) if p < 1 else torch.zeros_like(x)
        return x.copy_(scaled) if inplace else scaled

    def channels(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        if not training or p == 0:
            return x
        mask = kept(x, p, (*x.shape[:2], *(1 for _ in x.shape[2:])))
        scaled = torch.where(mask, x / (1 - p), torch.zeros_like(x)) if p < 1 else torch.zeros_like(x)
        return x.copy_(scaled) if inplace else scaled

    attention = F.scaled_dot_product_attention

    def attend(
        query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *rest: Any, **more: Any
    ) -> Any:
        if dropout_p == 0:
            return attention(query, key, value, attn_mask, 0.0, *rest, **more)
        return _attention(query, key, value, attn_mask, dropout_p, dropout, *rest, **more)

    patches = [(F, "dropout", dropout), (torch, "dropout", dropout), (F, "scaled_dot_product_attention", attend)]
    patches += [(F, name, channels) for name in ("dropout1d", "dropout2d", "dropout3d")]

    def bernoulli(x: Any, p: float = 0.5, **_: Any) -> Any:
        mask = draw(seed, step, len(calls), x.shape) < p
        calls.append({"shape": list(x.shape), "rate": float(1 - p)})
        return x.copy_(torch.as_tensor(mask, device=x.device).to(x.dtype))

    patches += [(torch.Tensor, "bernoulli_", bernoulli)]  # what drops whole branches (stochastic depth)
    with patched(patches):
        yield calls


@contextlib.contextmanager
def in_jax(numbers: Sequence[Any] | None) -> Iterator[list[dict[str, Any]]]:
    """While it lasts ``jax.random.bernoulli`` compares the shared numbers; yields what it was asked for.

    Args:
      numbers: for each call, as `draws` gives them; None only notes the shapes.
    """
    import jax
    import jax.numpy as jnp

    calls: list[dict[str, Any]] = []

    def bernoulli(_key: Any, p: Any = 0.5, shape: Any = None, **_: Any) -> Any:
        shape = tuple(jnp.shape(p)) if shape is None else tuple(shape)
        rate = float(1 - p) if isinstance(p, float | int) else None
        calls.append({"shape": list(shape), "rate": rate})
        if numbers is None or len(calls) > len(numbers):
            return jnp.ones(shape, bool)
        return jnp.asarray(numbers[len(calls) - 1]) < p

    with patched([(jax.random, "bernoulli", bernoulli)]):
        yield calls


@contextlib.contextmanager
def patched(patches: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """While it lasts, attributes have other values."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    rate: float,
    dropout: Any,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    # The definition in the documentation of scaled_dot_product_attention.
    import torch

    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.size(-1) ** -0.5 if scale is None else scale)
    if is_causal:
        shape = query.size(-2), key.size(-2)
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return dropout(torch.softmax(scores, -1), rate) @ value
