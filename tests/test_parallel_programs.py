import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.data.loader import Loader
from jaxdl.engine import metrics, parallel, state, step
from jaxdl.engine.objective import classification
from jaxdl.engine.parallel import programs
from jaxdl.models import Net
from jaxdl.optim.optimizers import sgd

RNG = np.random.default_rng(0)
SPLIT = {"image": RNG.normal(size=(22, 2, 2, 1)), "label": RNG.integers(0, 3, 22).astype(np.int32)}


def run(devices, chunk_steps, steps=6, resident=True):
    """Parameters and losses after some steps with a ragged batch of 6 among them."""
    loader = Loader(SPLIT, 8, seed=1, resident=resident)
    tx = sgd(0.1, momentum=0.9)
    graph, start = state.create(Net((2, 2, 1), 3, hidden=4, rngs=nnx.Rngs(0)), tx, jax.random.key(0))
    mesh = parallel.make_mesh(parallel.first_devices(devices))
    current = parallel.replicate(mesh, start)
    arrays = parallel.replicate(mesh, loader.resident_arrays)
    train = step.train_step(graph, classification(), tx, lambda _, batch: batch)
    program = parallel.train_chunk(train, loader.take, mesh)
    losses = []
    for chunk in loader.chunks(0, steps, chunk_steps):
        current, measured = program(current, arrays, chunk.items)
        losses += list(np.asarray(measured["loss"][0]))
    evaluate = parallel.evaluator(step.eval_step(graph, classification(), lambda b: b), loader, mesh)
    return current, losses, metrics.means(metrics.host_total(evaluate(current)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("devices", [2, 4])
def test_a_split_batch_trains_as_a_whole_one(devices):
    one, losses, measured = run(1, 1)
    many, split_losses, split_measured = run(devices, 1)
    assert {leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(many)} == {True}
    np.testing.assert_allclose(split_losses, losses, rtol=1e-12)
    for name, value in tree.flatten(one.params).items():
        np.testing.assert_allclose(tree.flatten(many.params)[name], value, rtol=1e-11)
    assert split_measured == pytest.approx(measured, rel=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("resident", [True, False])
def test_chunks_change_nothing_but_the_number_of_programs(resident):
    one, losses, _ = run(1, 1)
    whole, chunk_losses, _ = run(1, 4, resident=resident)
    np.testing.assert_allclose(chunk_losses, losses, rtol=1e-12)
    for name, value in tree.flatten(one.params).items():
        np.testing.assert_allclose(tree.flatten(whole.params)[name], value, rtol=1e-11)


def test_the_order_of_a_small_program_changes_no_bit(monkeypatch):
    ordered = run(1, 4)[0]
    monkeypatch.setattr(programs, "SMALL", 0)
    for name, value in tree.flatten(run(1, 4)[0].params).items():
        np.testing.assert_array_equal(tree.flatten(ordered.params)[name], value)


def test_an_xla_without_that_option_does_without(monkeypatch):
    programs._knows_order.cache_clear()
    asked = []
    monkeypatch.setattr(programs, "IN_ORDER", {"xla_cpu_no_such_option": "1"})
    monkeypatch.setattr(jax, "jit", lambda *args, jit=jax.jit, **kw: asked.append(kw) or jit(*args, **kw))
    run(1, 4)
    programs._knows_order.cache_clear()
    assert {"compiler_options": programs.IN_ORDER} in asked
    assert any(options.get("compiler_options", "absent") is None for options in asked)


def test_evaluation_counts_every_example_once():
    loader = Loader(SPLIT, 8, shuffle=False)
    mesh = parallel.make_mesh(parallel.first_devices(1))

    def count(_, batch):
        ones = jnp.ones(batch["label"].shape)
        return {"n": metrics.average(ones), "label": metrics.average(batch["label"])}

    parts = parallel.evaluator(count, loader, mesh)(None)  # pyright: ignore[reportArgumentType]
    total = metrics.host_total(parts)
    assert total["n"] == (22.0, 22.0)
    assert total["label"][0] == SPLIT["label"].sum()


@pytest.mark.parametrize("devices", [1, 4])
def test_replicated_arrays_are_copies_that_may_be_donated(devices):
    mesh = parallel.make_mesh(parallel.first_devices(devices))
    zeros = jnp.zeros(3)  # in two leaves, as in Adam's first state
    copies = parallel.replicate(mesh, {"a": zeros, "b": zeros})
    moved = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1.0, tree), donate_argnums=0)(copies)
    np.testing.assert_array_equal(moved["b"], np.ones(3))
    np.testing.assert_array_equal(zeros, np.zeros(3))


@pytest.mark.parametrize("count", [0, 5])
def test_devices_that_are_not_there(count):
    with pytest.raises(ValueError, match=f"--devices must lie between 1 and the 4 there are; got {count}"):
        parallel.first_devices(count)
