"""Attention as a port may have made it: other calls for ``(function, query, key, value, *args, **kwargs)``."""

from collections.abc import Callable, Mapping
from typing import Any

import torch


def over_axis(axis: int) -> Callable[..., Any]:
    """The softmax over another axis of the scores."""

    def attend(_function: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        scores = query @ key.transpose(-2, -1) * (kwargs.get("scale") or query.shape[-1] ** -0.5)
        mask = next(iter(args), kwargs.get("attn_mask"))
        if kwargs.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e30) if mask.dtype == torch.bool else scores + mask
        return torch.softmax(scores, axis) @ value

    return attend


def scaled_twice(function: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
    """Scores that are divided by the root of a head's size twice."""
    return function(query, *args, **{**kwargs, "scale": 1 / query.shape[-1]})


def scaled_by_width(function: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
    """Scores that are divided by the root of the whole width."""
    return function(query, *args, **{**kwargs, "scale": (query.shape[-3] * query.shape[-1]) ** -0.5})


def shifted(by: int) -> Callable[..., Any]:
    """The causal mask with its diagonal moved."""

    def attend(function: Any, query: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril(by)
        bias = torch.where(mask, 0.0, torch.tensor(-1e30, dtype=query.dtype))
        return function(query, key, args[0], attn_mask=bias, **without(kwargs, "attn_mask", "is_causal"))

    return attend


def exchanged(order: tuple[int, int, int]) -> Callable[..., Any]:
    """Query, key and value in another order."""

    def attend(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*(args[place] for place in order), *args[3:], **kwargs)

    return attend


def other_heads(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The width divided as (size, heads), not (heads, size)."""

    def split(x: Any) -> Any:
        return x.transpose(1, 2).flatten(2).unflatten(2, (x.shape[-1], x.shape[1])).permute(0, 3, 1, 2)

    return function(*map(split, args[:3]), *args[3:], **kwargs)


def unmerged(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Heads put together without bringing them behind the time."""
    made = function(*args, **kwargs)
    return made.reshape(made.shape[0], made.shape[2], made.shape[1], made.shape[3]).transpose(1, 2)


def inverted(function: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """The mask says what to leave out."""
    mask = next(iter(args), kwargs.get("attn_mask"))
    if mask is None and kwargs.get("is_causal"):
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if mask is None:
        return function(query, key, value, *args, **kwargs)
    keep = mask if mask.dtype == torch.bool else mask == 0
    # JAX fills what is masked with a large negative number: a row of nothing is an average, not NaN.
    bias = torch.where(keep, torch.tensor(-1e30, dtype=query.dtype), 0.0)
    return function(query, key, value, attn_mask=bias, **without(kwargs, "attn_mask", "is_causal"))


def unmasked(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Without a mask."""
    return function(*args[:3], **without(kwargs, "attn_mask", "is_causal"))


def other_causality(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The future is masked where torch does not, and the other way round."""
    return function(*args, **{**kwargs, "is_causal": not kwargs.get("is_causal", False)})


def without(kwargs: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The options without some."""
    return {name: value for name, value in kwargs.items() if name not in names}
