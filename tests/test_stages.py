"""A program in stages computes what the whole computes, and nothing but activations crosses a cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.engine.stages import Program, work
from jaxdl.models.cnn import CNN
from jaxdl.models.net import Net
from jaxdl.models.resnet import BasicBlock, ResNet
from jaxdl.models.vit import VisionTransformer

RNG = np.random.default_rng(0)


def program_of(model, image):
    """The traced model in training mode, with its parameters, statistics and the function itself."""
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def fn(params, image, stats, key):
        copy = nnx.merge(graph, params, stats)
        logits = copy(image, nnx.Rngs(dropout=key))
        return logits, nnx.to_pure_dict(nnx.state(copy, nnx.BatchStat))

    return fn, Program(fn, params, image, stats, jax.random.key(0)), params, stats


def through(stages, params, image, *rest):
    """The outputs of all stages, by their place."""
    leaves, carried, found = jax.tree.leaves(params), [image], {}
    for stage in stages:
        assert [x.shape for x in carried] == [shape.shape for shape in stage.carried]
        own = [leaves[place] for place in stage.params]
        carried, outputs = stage.run(own, jax.tree.leaves(rest), carried)
        found |= dict(zip(stage.outputs, outputs, strict=True))
    assert not carried
    return [found[place] for place in sorted(found)]


MODELS = {
    "net": (lambda rngs: Net(hidden=16, depth=3, dropout=0.5, rngs=rngs), (4, 28, 28, 1)),
    "cnn": (lambda rngs: CNN((8, 8, 1), channels=(4, 8), hidden=16, dropout=0.3, rngs=rngs), (4, 8, 8, 1)),
    "resnet": (
        lambda rngs: ResNet((8, 8, 3), block=BasicBlock, layers=(1, 1, 1, 1), stem="cifar", width=4, rngs=rngs),
        (4, 8, 8, 3),
    ),
    "vit": (
        lambda rngs: VisionTransformer((8, 8, 3), hidden=12, depth=2, heads=3, dropout=0.1, rngs=rngs),
        (4, 8, 8, 3),
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [2, 4])
def test_stages_give_the_outputs_statistics_and_gradients_of_the_whole(name, count):
    make, shape = MODELS[name]
    image, key = jnp.asarray(RNG.normal(size=shape), jnp.float32), jax.random.key(3)
    fn, program, params, stats = program_of(make(nnx.Rngs(0)), image)
    stages = program.cut(program.balanced(count))
    whole = jax.tree.leaves(fn(params, image, stats, key))
    for ours, theirs in zip(through(stages, params, image, stats, key), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    def loss(params, run):
        return (jnp.asarray(run(params)[0]) ** 2).sum()

    got = jax.grad(lambda p: loss(p, lambda p: through(stages, p, image, stats, key)))(params)
    wanted = jax.grad(lambda p: loss(p, lambda p: fn(p, image, stats, key)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, wanted)
    held = [place for stage in stages for place in stage.params]
    assert sorted(held) == list(range(len(tree.flatten(params))))  # each parameter in one stage


def test_cuts_are_where_they_are_asked_for_and_only_activations_cross_them():
    make, shape = MODELS["cnn"]
    _, program, params, _ = program_of(make(nnx.Rngs(0)), jnp.zeros(shape))
    first, second, third = program.cut(["conv2", "fc1"])
    assert (first.layers, second.layers, third.layers) == (("conv1",), ("conv2",), ("fc1", "fc2"))
    assert [x.shape for x in second.carried] == [(4, 4, 4, 4)]
    assert third.carried[0].shape == (4, 32)
    names = list(tree.flatten(params))
    assert [names[place] for place in first.params] == ["conv1.bias", "conv1.weight"]
    assert program.layers == ("conv1", "conv2", "fc1", "fc2")


def test_a_group_of_layers_begins_with_its_first_and_shortcuts_cross_as_well():
    make, shape = MODELS["resnet"]
    _, program, _, _ = program_of(make(nnx.Rngs(0)), jnp.zeros(shape))
    _, second = program.cut(["layer2"])
    assert second.layers[0] == "layer2.0.conv1"
    assert len(second.carried) == 1
    _, inside = program.cut(["layer2.0.conv2"])
    assert len(inside.carried) == 2  # the main path and the shortcut


def test_the_work_is_that_of_the_matrix_products():
    def fn(params, image):
        return image @ params["a"] @ params["b"]

    shapes = {"a": jnp.zeros((8, 32)), "b": jnp.zeros((32, 4))}
    program = Program(fn, shapes, jnp.zeros((16, 8)))
    first, second = program.cut(["b"])
    assert (first.work, second.work) == (2 * 16 * 8 * 32, 2 * 16 * 32 * 4)
    assert work(jax.make_jaxpr(lambda x: jnp.sin(x))(jnp.zeros((3, 5))).eqns[0]) == 15


def test_balanced_stages_leave_as_little_as_possible_to_the_busiest():
    def fn(params, image):
        for name in "abcde":
            image = image @ params[name]
        return image

    widths = [2, 64, 64, 2, 2, 64]
    params = {n: jnp.zeros((i, o)) for n, i, o in zip("abcde", widths, widths[1:], strict=False)}
    program = Program(fn, params, jnp.zeros((1, 2)))
    # works: 256, 8192, 256, 8, 256
    assert [stage.layers for stage in program.cut(program.balanced(3))] == [("a",), ("b",), ("c", "d", "e")]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (["conv3"], "no layer conv3; did you mean conv"),
        (["fc1", "conv2"], "each behind the one before; got fc1, conv2"),
        (["conv1"], "expected layers behind conv1"),
        (["fc1", "fc1"], "each behind the one before"),
    ],
)
def test_wrong_cuts_are_told(at, message):
    make, shape = MODELS["cnn"]
    program = program_of(make(nnx.Rngs(0)), jnp.zeros(shape))[1]
    with pytest.raises(ValueError, match=message):
        program.cut(at)


def test_more_stages_than_layers_are_refused():
    make, shape = MODELS["cnn"]
    program = program_of(make(nnx.Rngs(0)), jnp.zeros(shape))[1]
    with pytest.raises(ValueError, match="a model of 4 layers has no 5 stages"):
        program.balanced(5)
