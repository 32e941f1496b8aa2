import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import state, step
from jaxdl.engine.objective import classification
from jaxdl.models import Net
from jaxdl.optim.optimizers import adam, sgd

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(6, 4, 4, 1))
LABELS = RNG.integers(0, 3, 6).astype(np.int32)


def identity(_, batch):
    return batch


def start(tx, **options):
    model = Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0), **options)
    return state.create(model, tx, jax.random.key(1))


def twin(params):
    """The document's network in torch with the same weights."""
    net = torch.nn.Sequential(torch.nn.Linear(16, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).double()
    weights = [params["fc1"]["weight"], params["fc1"]["bias"], params["fc2"]["weight"], params["fc2"]["bias"]]
    for parameter, value in zip(net.parameters(), weights, strict=True):
        parameter.data = torch.tensor(np.asarray(value))
    return net


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        (adam(1e-2), lambda p: torch.optim.Adam(p, 1e-2)),
    ],
)
def test_steps_are_those_of_torchs_training_loop(ours, theirs):
    graph, current = start(ours)
    train = jax.jit(step.train_step(graph, classification(), ours, identity))
    net = twin(current.params)
    optimizer = theirs(net.parameters())
    for _ in range(10):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net(torch.tensor(IMAGES).reshape(6, -1)), torch.tensor(LABELS).long()
        )
        loss.backward()
        optimizer.step()
        current, metrics = train(current, {"image": jnp.asarray(IMAGES), "label": jnp.asarray(LABELS)})
        np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], loss.item(), rtol=1e-12)
    assert int(current.step) == 10
    for value, parameter in zip(tree.flatten(twin_order(current.params)).values(), net.parameters(), strict=True):
        np.testing.assert_allclose(value, parameter.detach(), rtol=1e-11, atol=1e-13)


def twin_order(params):
    layers = [params["fc1"], params["fc2"]]
    return [leaf for layer in layers for leaf in (layer["weight"], layer["bias"])]


def test_accuracy_and_rate_are_metrics():
    tx = sgd(lambda count: 0.5 / (1.0 + count.astype(float)))
    graph, current = start(tx)
    batch = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    train = jax.jit(step.train_step(graph, classification(), tx, identity))
    rates = []
    for _ in range(3):
        current, metrics = train(current, batch)
        rates.append(float(metrics["lr"][0]))
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.5 / 3], rtol=1e-6)
    evaluate = step.eval_step(graph, classification(), lambda batch: batch)
    predicted = step.predict_step(graph, lambda batch: batch)(current, batch)
    correct, count = evaluate(current, batch)["accuracy"]
    assert (float(correct), float(count)) == (float((predicted.argmax(-1) == LABELS).sum()), 6.0)
    np.testing.assert_allclose(predicted.sum(-1), np.ones(6), rtol=1e-6)


def test_dropout_differs_from_step_to_step_and_not_from_run_to_run():
    tx = sgd(0.0)  # the parameters stay, so only dropout can change the loss
    graph, current = start(tx, dropout=0.5)
    train = jax.jit(step.train_step(graph, classification(), tx, identity))
    batch = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    after, first = train(current, batch)
    _, second = train(after, batch)
    _, again = train(current, batch)
    assert float(first["loss"][0]) != float(second["loss"][0])
    assert float(first["loss"][0]) == float(again["loss"][0])


def test_statistics_of_the_model_are_part_of_the_state():
    class Counting(nnx.Module):
        def __init__(self):
            self.weight = nnx.Param(jnp.ones((16, 3)))
            self.calls = nnx.BatchStat(jnp.zeros(()))

        def __call__(self, x, _rngs):
            self.calls[...] = self.calls[...] + 1.0
            return x.reshape(len(x), -1) @ self.weight[...]

    tx = sgd(0.1)
    graph, current = state.create(Counting(), tx, jax.random.key(0))
    train = jax.jit(step.train_step(graph, classification(), tx, identity))
    batch = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    for _ in range(3):
        current, _ = train(current, batch)
    assert float(current.stats["calls"]) == 3.0


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
    tx = sgd(0.1)
    graph, current = start(tx)
    batch = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    exact, loss = step.train_step(graph, classification(), tx, identity)(current, batch)
    coarse, rounded = step.train_step(graph, classification(), tx, identity, jnp.dtype(jnp.bfloat16))(
        current, batch
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(coarse.params)} == {jnp.dtype(jnp.float32)}
    assert rounded["loss"][0].dtype == jnp.float32
    error = abs(float(rounded["loss"][0] / loss["loss"][0]) - 1)
    assert 0 < error < 2**-6  # bfloat16 has 8 bits, and this is a sum of rounded terms
    moved = tree.norm(jax.tree.map(lambda a, b: a - b, coarse.params, exact.params))
    whole = tree.norm(jax.tree.map(lambda a, b: a - b, exact.params, current.params))
    assert 0 < float(moved / whole) < 0.05


def test_gradients_are_those_the_step_applies():
    tx = sgd(1.0)
    graph, current = start(tx)
    batch = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    grads, _, _ = step.gradients(graph, classification(), identity)(current, batch)
    after, _ = step.train_step(graph, classification(), tx, identity)(current, batch)
    expected = optax.apply_updates(current.params, jax.tree.map(jnp.negative, grads))
    for name, value in tree.flatten(after.params).items():
        np.testing.assert_array_equal(value, tree.flatten(expected)[name])
