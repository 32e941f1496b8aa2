"""Stages on devices of their own: what micro-batches mean for statistics, dropout and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_parallel_plan import BOUND, SPLIT, Small, error, train

from jaxdl import tree
from jaxdl.config import ScaleOptions
from jaxdl.engine import parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.engine.parallel.pipeline import pipeline
from jaxdl.models.vit import VisionTransformer
from jaxdl.optim.optimizers import sgd

pytestmark = pytest.mark.usefixtures("x64")


def gradient(model, batch, mesh=None, **options):
    """Gradients, statistics and metrics of a batch, in stages where there is a mesh."""
    graph, first = state.create(model, sgd(0.1), jax.random.key(0))
    differentiate = pipeline(mesh, **options) if mesh else step.of_whole
    take = step.gradients(graph, classification(), lambda _, batch: batch, None, differentiate)
    return jax.jit(take)(first, batch)


def batch_of(size):
    return {name: jnp.asarray(values[:size]) for name, values in SPLIT.items()}


def mesh_of(devices, parts):
    return parallel.make_mesh(parallel.first_devices(devices), parts)


def test_batchnorm_sees_a_micro_batch_at_a_time_and_its_statistics_follow_each():
    """As with three batches of four one after the other, whose gradients are averaged."""
    model, whole = Small(True, 0.0, np.float64), batch_of(12)
    grads, stats, metrics = gradient(model, whole, mesh_of(2, 2), micro_batches=3)
    graph, first = state.create(model, sgd(0.1), jax.random.key(0))
    one = jax.jit(step.gradients(graph, classification(), lambda _, batch: batch))
    parts, losses = [], []
    for start in (0, 4, 8):
        part = {name: values[start : start + 4] for name, values in whole.items()}
        got, first_stats, measured = one(first, part)
        first = step.TrainState(first.step, first.params, first_stats, first.opt_state, first.key)
        parts.append(got)
        losses.append(float(measured["loss"][0]))
    mean = jax.tree.map(lambda *g: sum(g) / 3, *parts)
    ours, theirs = tree.flatten((grads, stats)), tree.flatten((mean, first.stats))
    assert np.abs(ours.pop("0.fc1.bias")).max() < 1e-15  # zero in truth, in front of BatchNorm
    del theirs["0.fc1.bias"]
    assert error(ours, theirs) < BOUND
    assert int(ours["1.norm.num_batches_tracked"]) == 3
    np.testing.assert_allclose(float(metrics["loss"][0]), sum(losses), rtol=1e-12)
    assert float(metrics["loss"][1]) == 12


@pytest.mark.parametrize(("devices", "stages"), [(4, 4), (4, 2), (3, 3)])
def test_a_transformers_gradient_is_that_of_the_whole(devices, stages):
    with jax.enable_x64(True):
        model = VisionTransformer((8, 8, 3), classes=3, hidden=12, depth=3, rngs=nnx.Rngs(0))
        values = nnx.state(model, nnx.Param)
        nnx.update(model, jax.tree.map(lambda x: jnp.asarray(x, np.float64) + 0.01, values))
        rng = np.random.default_rng(1)
        batch = {"image": jnp.asarray(rng.normal(size=(8, 8, 8, 3))), "label": jnp.arange(8) % 3}
        ours = gradient(model, batch, mesh_of(devices, stages), micro_batches=4)
        theirs = gradient(model, batch)
    flat = tree.flatten(ours[0]), tree.flatten(theirs[0])
    scale = max(np.linalg.norm(x) for x in flat[1].values())
    assert max(np.linalg.norm(flat[0][k] - flat[1][k]) for k in flat[1]) < 1e-12 * scale
    np.testing.assert_allclose(ours[2]["accuracy"], theirs[2]["accuracy"], rtol=1e-12)


def test_class_weights_weigh_micro_batches_as_they_weigh_the_batch():
    graph, first = state.create(Small(False, 0.0, np.float64), sgd(0.1), jax.random.key(0))
    weighted = classification(class_weight=jnp.asarray([1.0, 5.0, 0.1]))
    mesh = mesh_of(2, 2)
    got, wanted = (
        jax.jit(step.gradients(graph, weighted, lambda _, batch: batch, None, how))(first, batch_of(12))[0]
        for how in (pipeline(mesh, 4), step.of_whole)
    )
    assert error(tree.flatten(got), tree.flatten(wanted)) < BOUND


def test_dropout_is_drawn_for_each_micro_batch():
    model, twice = Small(False, 0.5, np.float64), batch_of(4)
    twice = {name: jnp.concatenate([values, values]) for name, values in twice.items()}
    both = gradient(model, twice, mesh_of(2, 2), micro_batches=2)
    again = gradient(model, twice, mesh_of(2, 2), micro_batches=2)
    assert error(tree.flatten(both[0]), tree.flatten(again[0])) == 0
    one = gradient(model, batch_of(4), mesh_of(2, 2), micro_batches=1)  # the mask of the first micro-batch
    assert float(both[2]["loss"][0]) != pytest.approx(2 * float(one[2]["loss"][0]))


def test_every_device_holds_the_parameters_of_its_stage_alone_while_it_computes():
    """The parameters enter the mapped program as one row for each stage."""
    model, whole, mesh = Small(False, 0.0, np.float64), batch_of(12), mesh_of(2, 2)
    graph, first = state.create(model, sgd(0.1), jax.random.key(0))
    take = step.gradients(graph, classification(), lambda _, batch: batch, None, pipeline(mesh, 2))
    text = jax.jit(take).lower(first, whole).as_text()
    widest = 32 * 64 + 64  # fc1
    assert f"tensor<2x{widest}xf64>" in text
    assert f"tensor<1x{widest}xf64>" in text


def test_a_run_with_few_examples_left_in_its_last_batch():
    """A batch of 2 with 3 micro-batches asked for has 1, without and with the default."""
    plain = train(1, 10)
    assert error(train(2, 10, stages=2, micro_batches=3), plain) < BOUND
    assert error(train(2, 10, stages=2), plain) < BOUND
    assert error(train(2, 10, stages=2, cut_at=("fc2",)), plain) < BOUND
    assert parallel.make_plan(ScaleOptions(devices=4, stages=2)).mesh.shape == {"data": 2, "model": 2}
