import jax
import jax.numpy as jnp
import numpy as np

from jaxdl.engine.parallel import devices


def mesh():
    return devices.make_mesh(devices.first_devices(4))


def test_arrays_are_split_along_the_longest_axis_that_divides():
    arrays = {
        "long": jnp.zeros((8, 512)),
        "odd": jnp.zeros((401, 12)),
        "small": jnp.zeros(8),
        "none": jnp.zeros((333, 7)),
        "number": jnp.zeros(()),
    }
    split = devices.shard(mesh(), arrays)
    shapes = {name: array.addressable_shards[0].data.shape for name, array in split.items()}
    assert shapes == {"long": (8, 128), "odd": (401, 3), "small": (8,), "none": (333, 7), "number": ()}


def test_what_is_split_comes_back_whole():
    array = np.arange(4096, dtype=np.float32).reshape(8, 512)
    split = devices.shard(mesh(), {"a": jnp.asarray(array), "key": jax.random.key(3)})
    np.testing.assert_array_equal(devices.to_host(split["a"]), array)
    assert jax.random.key_data(split["key"]).tolist() == jax.random.key_data(jax.random.key(3)).tolist()


def test_one_processs_own_copy_lies_on_one_device():
    copy = devices.local(devices.replicate(mesh(), {"a": jnp.arange(3)}))
    assert len(copy["a"].devices()) == 1
    np.testing.assert_array_equal(copy["a"], np.arange(3))


def test_with_one_process_everything_is_the_first_ones():
    tree = {"a": jnp.arange(3)}
    assert devices.of_first_process(mesh(), tree) is tree
