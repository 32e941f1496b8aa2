"""What rounds within a port is let loose, so that it computes in the precision of the comparison."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity import masks

# What a layer may pin; the state of a recurrent one starts in the type of its parameters.
PINS = ("dtype", "param_dtype")


@contextlib.contextmanager
def precise() -> Iterator[None]:
    """float64 on the CPU, with JAX's own rules of promotion, whatever is set outside."""
    with (
        jax.enable_x64(True),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
        jax.default_matmul_precision("highest"),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def cast(values: Any, dtype: Any) -> Any:
    """The same tree with its floating-point arrays in another type."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x), values
    )


def hollow(values: Any, dtype: Any) -> Any:
    """The same tree with zeros that take no memory for its floating-point arrays: all of them will be loaded."""
    zero = np.zeros((), dtype)
    return jax.tree.map(
        lambda x: np.broadcast_to(zero, x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x),
        values,
    )


def pinned(module: Any, name: str, dtype: Any) -> bool:
    """Whether a layer pins a type that would round everything behind it.

    One that pins less than a float32 port has is what a comparison in float32 is for.
    """
    own = getattr(module, name, None)
    try:
        if own is None or not jnp.issubdtype(own, jnp.floating):
            return False
    except TypeError:
        return False
    return dtype == jnp.float64 or jnp.finfo(own).bits > jnp.finfo(dtype).bits


@contextlib.contextmanager
def exact_attention() -> Iterator[None]:
    """While it lasts `jax.nn.dot_product_attention` keeps float64: its own softmax is always float32."""
    with masks.patched([(jax.nn, "dot_product_attention", _exact(jax.nn.dot_product_attention))]):
        yield


def _exact(original: Callable[..., Any]) -> Callable[..., Any]:
    """The function in the precision of its arguments; what is rare is left to the original."""

    def attend(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **options: Any) -> Any:
        known = ("scale", "is_causal", "implementation", "return_residual")
        rare = [name for name, given in options.items() if given is not None and name not in known]
        if query.dtype != jnp.float64 or query.ndim != 4 or rare:
            return original(query, key, value, bias, mask, **options)
        if key.shape[-2] != query.shape[-2]:
            key, value = (jnp.repeat(x, query.shape[-2] // x.shape[-2], axis=-2) for x in (key, value))
        scale = options.get("scale")
        scores = jnp.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
        scores = scores if bias is None else scores + bias.astype(scores.dtype)
        if options.get("is_causal"):
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
            mask = causal if mask is None else jnp.logical_and(mask, causal)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.asarray(-0.7 * jnp.finfo(jnp.float32).max, scores.dtype))
        return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores, axis=-1), value)

    return attend
