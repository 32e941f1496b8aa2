"""Arrays in rows, and back."""

import jax.numpy as jnp
import numpy as np

from jaxdl.engine.parallel.flat import Flat


def test_arrays_come_back_from_rows_of_any_width():
    arrays = [jnp.arange(6.0).reshape(2, 3), jnp.arange(4, dtype=jnp.int32), jnp.full((), 7.0)]
    flat, other = Flat(arrays), Flat([jnp.zeros(9), jnp.zeros(2, bool)])
    width = Flat.widest([flat, other])
    assert width == {"float32": 9, "int32": 4, "bool": 2}
    rows = flat.pack(arrays, width)
    assert {name: row.shape for name, row in rows.items()} == {"float32": (9,), "int32": (4,), "bool": (2,)}
    np.testing.assert_array_equal(rows["float32"], [0, 1, 2, 3, 4, 5, 7, 0, 0])
    for ours, theirs in zip(flat.unpack(rows), arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
