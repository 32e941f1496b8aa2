"""The few types that every part shares."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Array = jax.Array
PyTree = Any

# A hyper-parameter: a number, or an array () where it differs between the members of a sweep.
Scalar = float | Array

# One batch: "image" (B, H, W, C) uint8 as stored, float32 once prepared; "label" (B,) int32.
Batch = Mapping[str, Array]

# name -> (sum, count): adding sums and counts stays exact over ragged batches. On the device scalars, or stacked
# along an axis of batches; on the host NumPy arrays or Python floats.
Metrics = Mapping[str, tuple[Any, Any]]

# (model, batch, rngs) -> (scalar loss, metrics). Every training technique is one of these.
LossFn = Callable[[Any, Batch, Any], tuple[Array, Metrics]]
