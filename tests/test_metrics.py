import jax.numpy as jnp
import numpy as np

from jaxdl.engine import metrics


def test_average_is_a_sum_and_a_count():
    total, count = metrics.average(jnp.array([True, False, True]))
    assert (float(total), float(count)) == (2.0, 3.0)


def test_ragged_batches_weigh_by_their_size():
    batches = [jnp.array([1.0, 2.0, 3.0]), jnp.array([10.0])]
    parts = [{"loss": tuple(x[None] for x in metrics.average(batch))} for batch in batches]
    assert metrics.means(metrics.host_total(parts)) == {"loss": 4.0}  # not (2 + 10) / 2


def test_sums_on_the_host_are_in_float64():
    ones = np.ones(1000, np.float32)
    start = {"loss": (2.0**24, 0.0)}  # where float32 no longer tells neighbours apart
    total, count = metrics.add(start, metrics.host_total([{"loss": (ones, ones)}]))["loss"]
    assert (total, count) == (2.0**24 + 1000, 1000.0)


def test_add_starts_from_nothing():
    assert metrics.add({}, {"a": (1.0, 2.0)}) == {"a": (1.0, 2.0)}


def test_the_mean_of_nothing_is_nan():
    assert np.isnan(metrics.means({"loss": (0.0, 0.0)})["loss"])


def test_the_interval_of_a_mean_is_students():
    found = metrics.spread([1.0, 2.0, 3.0, 6.0])
    # std = sqrt(14 / 3); t of 3 degrees of freedom at 97.5% is 3.18245 (any table of it).
    half = 3.182446 * (14 / 3) ** 0.5 / 2
    np.testing.assert_allclose(found, (4, 3, (14 / 3) ** 0.5, 3 - half, 3 + half, 1, 6), rtol=1e-6)


def test_one_value_has_no_spread():
    found = metrics.spread([0.5])
    assert (found.n, found.mean, found.smallest, found.largest) == (1, 0.5, 0.5, 0.5)
    assert np.isnan([found.std, found.low, found.high]).all()
    missing = dict.fromkeys(("std", "low", "high"))
    assert found.known() == {"n": 1, "mean": 0.5, "smallest": 0.5, "largest": 0.5} | missing
