"""Layers in parts: which axis of which array is split, and that each device does its part of the work alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from test_parallel_plan import train

from jaxdl.engine import parallel
from jaxdl.engine.parallel.tensor import layer_specs, split_layers
from jaxdl.optim.optimizers import adam

WHOLE = PartitionSpec()


def shapes(**named):
    return {name.replace("__", "."): jnp.zeros(shape) for name, shape in named.items()}


def test_layers_are_split_by_outputs_and_inputs_in_turns():
    arrays = shapes(
        conv1__bias=(32,), conv1__weight=(3, 3, 16, 32), conv2__bias=(64,), conv2__weight=(3, 3, 32, 64)
    ) | shapes(fc1__bias=(128,), fc1__weight=(128, 64), fc2__bias=(10,), fc2__weight=(10, 128))
    assert layer_specs(arrays, 2) == {
        "conv1.weight": PartitionSpec(None, None, None, "model"),
        "conv1.bias": PartitionSpec("model"),
        "conv2.weight": PartitionSpec(None, None, "model"),
        "conv2.bias": WHOLE,
        "fc1.weight": PartitionSpec("model"),
        "fc1.bias": PartitionSpec("model"),
        "fc2.weight": PartitionSpec(None, "model"),
        "fc2.bias": WHOLE,
    }


def test_what_the_devices_do_not_divide_stays_whole_and_the_next_begins_anew():
    arrays = shapes(a__weight=(31, 64), b__weight=(64, 31), b__bias=(64,), norm__weight=(64,), c__weight=(8, 64))
    specs = layer_specs(arrays, 2)
    assert specs["a.weight"] == specs["norm.weight"] == WHOLE
    assert specs["b.weight"] == specs["b.bias"] == PartitionSpec("model")
    assert specs["c.weight"] == WHOLE  # 512 numbers: sending costs more


def test_attention_is_split_by_its_packed_projection_and_back():
    arrays = shapes(att__in_proj_weight=(96, 32), att__in_proj_bias=(96,), att__out_proj__weight=(32, 32))
    specs = layer_specs(arrays, 4)
    assert specs["att.in_proj_weight"] == specs["att.in_proj_bias"] == PartitionSpec("model")
    assert specs["att.out_proj.weight"] == PartitionSpec(None, "model")


def test_the_optimizers_state_is_split_as_the_parameters():
    current = train(4, 1, tx=adam(1e-3), tensor=4, dtype=np.float32)[0]
    moments = [leaf for leaf in jax.tree.leaves(current.opt_state) if leaf.size == 2048]
    assert [leaf.addressable_shards[0].data.size for leaf in moments] == [512, 512]


def test_a_device_computes_with_its_part_of_the_weights_alone():
    mesh = parallel.make_mesh(parallel.first_devices(4), 4)
    params = split_layers(mesh, shapes(fc1__weight=(256, 128), fc2__weight=(128, 256)))
    x = parallel.replicate(mesh, jnp.ones((8, 128)))
    program = jax.jit(lambda p, x: jnp.maximum(x @ p["fc1.weight"].T, 0) @ p["fc2.weight"].T)
    text = program.lower(params, x).compile().as_text() or ""
    assert "f32[64,128]" in text
    assert "f32[256,128]" not in text
    assert text.count("all-reduce(") == 1
    assert "all-gather" not in text
