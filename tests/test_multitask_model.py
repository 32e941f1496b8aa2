"""The loss of several tasks and its gradients against a torch twin in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl import tree
from jaxdl.engine.objective import classification
from jaxdl.methods.multitask.model import Balance, MultiTask, classifier_of, multitask
from jaxdl.methods.multitask.tasks import Task
from jaxdl.models import Net
from jaxdl.nn.norm import BatchNorm

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(6, 4, 4, 1)), RNG.integers(0, 3, 6)
ODD, NUMBER = (LABELS % 2).astype(float), RNG.normal(size=6)
TASKS = [Task("label", "classes"), Task("parity", "binary"), Task("slant", "number")]


def model(dropout=0.0, dtype=jnp.float64):
    net = Net((4, 4, 1), 3, hidden=5, dropout=dropout, rngs=nnx.Rngs(0))
    made = MultiTask(net, "dropout", "fc2", 5, TASKS, rngs=nnx.Rngs(1))
    nnx.update(made, jax.tree.map(lambda leaf: leaf.astype(dtype), nnx.state(made)))
    made.log_variances[...] = jnp.asarray([0.3, -0.4, 0.7], dtype)
    made.balance[...] = jnp.asarray([0.2, -0.1, 0.4], dtype)
    return made


def batch(dtype=jnp.float64):
    values = {"image": IMAGES, "task_parity": ODD, "task_slant": NUMBER}
    return {**{name: jnp.asarray(v, dtype) for name, v in values.items()}, "label": jnp.asarray(LABELS, jnp.int32)}


def run(made, loss_fn, seed=None):
    """The loss, gradients by name, and the statistics afterwards."""
    graph, params, stats = nnx.split(made, nnx.Param, nnx.BatchStat)
    stats = nnx.to_pure_dict(stats)

    def objective(params):
        merged = nnx.merge(graph, params, stats)
        loss, metrics = loss_fn(merged, batch(), None if seed is None else nnx.Rngs(dropout=seed))
        return loss, (metrics, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

    (loss, (metrics, stats)), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(
        nnx.to_pure_dict(params)
    )
    return loss, tree.flatten(grads), metrics, stats


class Twin(torch.nn.Module):
    """One trunk, three heads, weighed by whoever asks."""

    def __init__(self, made):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(16, 5), torch.nn.Linear(5, 3)
        self.parity, self.slant = torch.nn.Linear(5, 1), torch.nn.Linear(5, 1)
        self.log_variances, self.balance = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
        self.double()
        named = tree.flatten(nnx.to_pure_dict(nnx.state(made, nnx.Param)))
        self.load_state_dict({self.own(name): torch.tensor(np.asarray(value)) for name, value in named.items()})

    @staticmethod
    def own(name):
        return name.removeprefix("model.").removeprefix("heads.")

    def losses(self):
        x = torch.relu(self.fc1(torch.tensor(IMAGES).reshape(6, -1)))
        return torch.stack(
            [
                F.cross_entropy(self.fc2(x), torch.tensor(LABELS)),
                F.binary_cross_entropy_with_logits(self.parity(x)[:, 0], torch.tensor(ODD)),
                F.mse_loss(self.slant(x)[:, 0], torch.tensor(NUMBER)),
            ]
        )

    def trunk(self):
        return [self.fc1.weight, self.fc1.bias]


def assert_gradients(ours, module, skip=()):
    theirs = dict(module.named_parameters())
    for name, value in ours.items():
        own = module.own(name)
        expected = theirs[own].grad if theirs[own].grad is not None else torch.zeros_like(theirs[own])
        if own not in skip:
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("weights", [(), (1.0, 0.3, 0.0)])
def test_fixed_weights_with_penalties(weights):
    made = model()
    loss, grads, metrics, _ = run(made, multitask(classification(l2=0.1), TASKS, Balance(weights=weights)))
    module = Twin(made)
    each = module.losses()
    penalty = 0.05 * sum((p**2).sum() for part in (module.fc1, module.fc2) for p in part.parameters())
    expected = (torch.tensor(weights or (1.0, 1.0, 1.0), dtype=torch.float64) * each).sum() + penalty
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    assert_gradients(grads, module)
    for name, value in zip(("loss", "parity_loss", "slant_loss"), each, strict=True):
        np.testing.assert_allclose(metrics[name][0] / metrics[name][1], value.item(), rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_uncertainty():
    made = model()
    loss, grads, _, _ = run(made, multitask(classification(), TASKS, Balance("uncertainty")))
    module = Twin(made)
    s = module.log_variances
    expected = (torch.tensor([1, 1, 0.5]) * torch.exp(-s) * module.losses() + s / 2).sum()
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    assert_gradients(grads, module)


@pytest.mark.usefixtures("x64")
def test_gradnorm():
    made = model()
    loss, grads, _, stats = run(made, multitask(classification(), TASKS, Balance("gradnorm", alpha=1.5)))
    module = Twin(made)
    weights, each = 3 * torch.softmax(module.balance, 0), module.losses()
    norms = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(w * one, module.trunk(), create_graph=True)]
            ).norm()
            for w, one in zip(weights, each, strict=True)
        ]
    )
    (expected,) = torch.autograd.grad(
        (norms - norms.mean().detach()).abs().sum(), module.balance, retain_graph=True
    )
    total = (weights.detach() * each).sum()
    total.backward()
    np.testing.assert_allclose(loss, total.item(), rtol=1e-13)
    assert_gradients(grads, module, skip={"balance"})
    np.testing.assert_allclose(grads["balance"], expected, rtol=1e-10)
    np.testing.assert_allclose(
        stats["initial"], each.detach(), rtol=1e-13
    )  # against which later ones are measured


@pytest.mark.usefixtures("x64")
def test_gradnorm_lets_a_task_that_is_behind_pull_more():
    made = model()
    made.initial[...] = jnp.asarray([5.0, 0.5, 1.0])
    *_, stats = run(made, multitask(classification(), TASKS, Balance("gradnorm")))
    np.testing.assert_array_equal(stats["initial"], [5.0, 0.5, 1.0])
    made.balance[...] = jnp.zeros(3)
    _, grads, _, _ = run(made, multitask(classification(), TASKS, Balance("gradnorm", alpha=10.0)))
    assert grads["balance"][0] > 0 > grads["balance"][1]  # descent lowers the first, raises the second


@pytest.mark.usefixtures("x64")
def test_pcgrad_changes_the_trunk_alone():
    made = model()
    tasks = TASKS[:2]  # of two, the order does not matter
    loss, grads, _, _ = run(made, multitask(classification(), tasks, Balance(weights=(1.0, 5.0), pcgrad=True)))
    module = Twin(made)
    each = torch.tensor([1.0, 5.0]) * module.losses()[:2]
    flat = [
        torch.cat([g.flatten() for g in torch.autograd.grad(one, module.trunk(), retain_graph=True)])
        for one in each
    ]
    inner = torch.dot(flat[0], flat[1])
    if inner < 0:
        total = sum(flat) - inner / flat[1].norm() ** 2 * flat[1] - inner / flat[0].norm() ** 2 * flat[0]
    else:
        total = sum(flat)
    each.sum().backward()
    np.testing.assert_allclose(loss, each.sum().item(), rtol=1e-13)
    ours = np.concatenate([np.asarray(grads[f"model.fc1.{name}"]).ravel() for name in ("weight", "bias")])
    np.testing.assert_allclose(ours, total, rtol=1e-10, atol=1e-14)
    assert_gradients(grads, module, skip={"fc1.weight", "fc1.bias"})


@pytest.mark.usefixtures("x64")
def test_dropout_draws_one_mask_for_all_tasks():
    """Steered or not, the same key gives the same loss."""
    made, plain = model(dropout=0.5), classification()
    direct = run(made, multitask(plain, TASKS, Balance()), 3)[0]
    made.balance[...] = jnp.zeros(3)
    steered = run(made, multitask(plain, TASKS, Balance("gradnorm")), 3)[0]
    without = run(made, multitask(plain, TASKS, Balance()), 4)[0]
    np.testing.assert_allclose(direct, steered, rtol=1e-13)
    assert abs(float(direct - without)) > 1e-6


@pytest.mark.usefixtures("x64")
def test_running_statistics_move_once():
    """Also where gradients are taken task by task, which must not run the model again."""

    class Normed(nnx.Module):
        def __init__(self):
            self.bn, self.net = BatchNorm(1), Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0))

        def __call__(self, x, rngs=None):
            return self.net(self.bn(x), rngs)

    found = []
    for how in (Balance(), Balance("gradnorm", pcgrad=True)):
        made = MultiTask(Normed(), "net.dropout", "net.fc2", 5, TASKS, rngs=nnx.Rngs(1))
        nnx.update(
            made,
            jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == "float32" else leaf, nnx.state(made)),
        )
        *_, stats = run(made, multitask(classification(), TASKS, how))
        found.append(stats["model"]["bn"])
    assert int(found[0]["num_batches_tracked"]) == 1
    np.testing.assert_allclose(found[0]["running_mean"], 0.1 * IMAGES.mean(), rtol=1e-12)
    for name in found[0]:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-13)


def test_the_classifier_is_left():
    made = model(dtype=jnp.float32)
    params, stats = classifier_of((nnx.to_pure_dict(nnx.state(made, nnx.Param)), {}))
    assert set(tree.flatten(params)) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert stats == {}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (Balance(weights=(1.0,)), "one number for each of label, parity, slant"),
        (Balance("uncertainty", weights=(1.0, 1.0, 1.0)), "--weighting fixed; got 3 and uncertainty"),
        (Balance(weights=(1.0, -1.0, 1.0)), "--weights must be 0 or more; got 1.0 -1.0 1.0"),
        (Balance("gradnorm", alpha=float("nan")), "--gradnorm-alpha must be 0 or more; got nan"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(how, message):
    with pytest.raises(ValueError, match=message):
        multitask(classification(), TASKS, how)
