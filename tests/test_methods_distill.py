import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl import tree
from jaxdl.data import sources, transforms
from jaxdl.data.loader import Loader
from jaxdl.engine.objective import classification
from jaxdl.methods import distill
from jaxdl.models import CNN, Net
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import adam

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((6, 4, 4, 1)), RNG.integers(0, 3, 6)
TEACHER, HINT = 3 * RNG.normal(size=(6, 3)), RNG.normal(size=(6, 7))


def batch(dtype=jnp.float64):
    arrays = {"image": IMAGES, distill.LOGITS: TEACHER, distill.HINT: HINT}
    return {**{name: jnp.asarray(a, dtype) for name, a in arrays.items()}, "label": jnp.asarray(LABELS, jnp.int32)}


def student(dtype=jnp.float64, **options):
    net = Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0), **options)
    nnx.update(net, jax.tree.map(lambda leaf: leaf.astype(dtype), nnx.state(net)))
    return net


class TorchStudent(torch.nn.Module):
    """The same network; its ``regressor`` reads the output of ``fc1``."""

    def __init__(self, hint=None):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(16, 5), torch.nn.Linear(5, 3)
        if hint:
            self.regressor = torch.nn.Linear(5, hint)
        self.double()

    def forward(self, x):
        features = self.fc1(x)
        return self.fc2(torch.relu(features)), features


def gradients(model, loss_fn, images=None):
    """The loss, its metrics, and its gradients by name."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    data = batch() if images is None else images

    def objective(params):
        return loss_fn(nnx.merge(graph, params, rest), data, None)

    (loss, metrics), grads = jax.value_and_grad(objective, has_aux=True)(nnx.to_pure_dict(params))
    return loss, metrics, tree.flatten(grads)


def twin(model, hint=None):
    """A torch student with the model's weights."""
    module = TorchStudent(hint)
    named = {
        name.removeprefix("student."): torch.tensor(np.asarray(value))
        for name, value in tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param))).items()
    }
    module.load_state_dict(named)
    return module


def torch_loss(module, temperature, alpha, beta=0.0, l2=0.0):
    """As Hinton's loss is written with torch, in its tutorial on distillation among others."""
    logits, features = module(torch.tensor(IMAGES).reshape(6, -1))
    soft = F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.softmax(torch.tensor(TEACHER) / temperature, 1),
        reduction="batchmean",
    )
    loss = alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(logits, torch.tensor(LABELS))
    if beta:
        loss = loss + beta * F.mse_loss(module.regressor(features), torch.tensor(HINT))
    return loss + l2 / 2 * sum((p**2).sum() for p in module.parameters())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("temperature", "alpha", "l2"), [(1.0, 0.5, 0.0), (4.0, 0.9, 0.01), (20.0, 1.0, 0.0)])
def test_loss_and_gradients_are_torchs(temperature, alpha, l2):
    model = student()
    loss_fn = distill.distillation(classification(l2=l2), temperature=temperature, soft_weight=alpha)
    loss, _, grads = gradients(model, loss_fn)
    module = twin(model)
    expected = torch_loss(module, temperature, alpha, l2=l2)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(grads[name], parameter.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_loss_and_gradients_with_a_hint_are_torchs():
    model = distill.hinted(student(jnp.float32), "fc1", (4, 4, 1), (7,), jax.random.key(1))
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model)))
    loss_fn = distill.distillation(classification(), temperature=2.0, soft_weight=0.3, hint_weight=5.0)
    loss, metrics, grads = gradients(model, loss_fn)
    module = twin(model, hint=7)
    expected = torch_loss(module, 2.0, 0.3, beta=5.0)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(
        metrics["hint_loss"][0] / metrics["hint_loss"][1],
        F.mse_loss(module.regressor(module(torch.tensor(IMAGES).reshape(6, -1))[1]), torch.tensor(HINT)).item(),
        rtol=1e-13,
    )
    for name, parameter in module.named_parameters():
        ours = grads[name if name.startswith("regressor") else f"student.{name}"]
        np.testing.assert_allclose(ours, parameter.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_without_soft_targets_it_is_the_plain_loss():
    model, plain = student(), classification(label_smoothing=0.1, l1=0.01)
    loss, metrics, grads = gradients(model, distill.distillation(plain, soft_weight=0.0))
    expected, plain_metrics, plain_grads = gradients(model, plain)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    assert set(metrics) == {*plain_metrics, "soft_loss"}
    for name, value in plain_grads.items():
        np.testing.assert_allclose(grads[name], value, rtol=1e-13, atol=1e-16)


def test_a_student_that_says_what_the_teacher_says_has_nothing_to_learn():
    loss = distill.soft_target_loss(jnp.asarray(TEACHER), jnp.asarray(TEACHER) + 7, 3.0)
    np.testing.assert_allclose(loss, np.zeros(6), atol=1e-5)


def test_by_hand():
    # Teacher 3/4 and 1/4, student 1/2 and 1/2: KL = 3/4 log(3/2) + 1/4 log(1/2), times 2 squared.
    loss = distill.soft_target_loss(jnp.zeros((1, 2)), jnp.array([[2 * np.log(3.0), 0.0]]), 2.0)
    np.testing.assert_allclose(loss, [4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))], rtol=1e-6)


class Normed(nnx.Module):
    """A model with running statistics."""

    def __init__(self, *, rngs):
        self.bn, self.net = BatchNorm(1), Net((4, 4, 1), 3, hidden=5, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.net(self.bn(x), rngs)


def test_the_student_runs_once():
    """A second run would move running statistics twice and draw another dropout mask."""
    images = {**batch(jnp.float32), "image": jnp.asarray(RNG.random((6, 4, 4, 1)), jnp.float32)}
    plain, distilled = (Normed(rngs=nnx.Rngs(0)) for _ in range(2))
    plain(images["image"], None)
    distill.distillation(classification())(distilled, images, None)
    assert not np.array_equal(plain.bn.running_mean[...], np.zeros(1))
    np.testing.assert_array_equal(distilled.bn.running_mean[...], plain.bn.running_mean[...])

    dropping = student(jnp.float32, dropout=0.5)
    rngs = nnx.Rngs(dropout=3)
    distill.distillation(classification())(dropping, batch(jnp.float32), rngs)
    assert int(rngs.dropout.count[...]) == 1


def test_maps_of_two_sizes_are_compared_at_the_smaller():
    large, small = RNG.random((2, 4, 4, 3)).astype(np.float32), RNG.random((2, 2, 2, 3)).astype(np.float32)
    pooled = large.reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    expected = ((pooled - small) ** 2).mean()
    for pair in ((large, small), (small, large)):
        np.testing.assert_allclose(distill.hint_loss(*map(jnp.asarray, pair)), expected, rtol=1e-5)


def test_a_hint_of_another_form_is_an_error():
    with pytest.raises(ValueError, match=r"the student's gives \(4, 4\), the teacher's \(\)"):
        distill.hinted(CNN((8, 8, 1), 3, rngs=nnx.Rngs(0)), "conv2", (8, 8, 1), (7,), jax.random.key(0))
    with pytest.raises(ValueError, match="the model has no layer conv3; did you mean conv"):
        distill.hinted(CNN((8, 8, 1), 3, rngs=nnx.Rngs(0)), "conv3", (8, 8, 1), (7,), jax.random.key(0))


def test_the_plain_student_is_left_of_a_hinted_one():
    model = distill.hinted(student(jnp.float32), "fc1", (4, 4, 1), (7,), jax.random.key(1))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert set(params) == {"student", "regressor"}
    kept, stats = distill.student_of((params, {}))
    plain = nnx.to_pure_dict(nnx.state(student(jnp.float32), nnx.Param))
    assert tree.flatten(kept).keys() == tree.flatten(plain).keys()
    assert stats == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "the temperature must be above 0; got 0.0"),
        ({"temperature": float("nan")}, "the temperature must be above 0; got nan"),
        ({"soft_weight": 1.5}, r"the weight of soft targets must lie in \[0, 1\]; got 1.5"),
        ({"hint_weight": -1.0}, "the weight of hints must be at least 0; got -1.0"),
    ],
)
def test_a_number_outside_its_range_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        distill.distillation(classification(), **options)


DIGITS = sources.load("digits")


def member(seed, hidden=8):
    net = nnx.view(Net((8, 8, 1), 10, hidden=hidden, rngs=nnx.Rngs(seed)), deterministic=True)
    return net, lambda batch: transforms.to_float(jax.random.key(0), batch)


def test_answers_are_the_mean_of_the_members_logits_in_stored_order():
    split = {name: rows[:701] for name, rows in DIGITS.train.items()}  # a full and a ragged batch
    members = [member(0), member(1)]
    said = distill.answers(distill.teacher(members), split)[distill.LOGITS]
    images = jnp.asarray(split["image"], jnp.float32) / 255
    expected = (members[0][0](images) + members[1][0](images)) / 2
    np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-5)


def test_answers_lie_beside_the_labels_of_their_images():
    ask = distill.teacher([member(0)], "fc1")
    source = distill.with_answers(ask, DIGITS)
    assert source.fingerprint() == DIGITS.fingerprint()
    loader = Loader(source.train, 32, seed=1)
    taken = loader.take(loader.resident_arrays, jnp.asarray(loader.rows(3)))
    expected = ask(taken)
    np.testing.assert_allclose(taken[distill.LOGITS], expected[distill.LOGITS], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(taken[distill.HINT], expected[distill.HINT], rtol=1e-5, atol=1e-6)


def test_augmented_images_are_those_that_the_teacher_sees():
    net, _ = member(0)
    ask = distill.teacher([(net, lambda batch: batch)])
    prepare = transforms.compose(transforms.to_float, transforms.random_crop(1))
    stored, key = {name: jnp.asarray(rows[:5]) for name, rows in DIGITS.train.items()}, jax.random.key(3)
    prepared = distill.answering(ask, prepare)(key, stored)
    np.testing.assert_array_equal(prepared["image"], prepare(key, stored)["image"])
    np.testing.assert_allclose(prepared[distill.LOGITS], net(prepared["image"]), rtol=1e-5)
    assert not np.array_equal(prepared["image"], transforms.to_float(key, stored)["image"])


def test_a_hint_of_several_teachers_is_an_error():
    with pytest.raises(ValueError, match="a hint is of one teacher; got 2"):
        distill.teacher([member(0), member(1)], "fc1")


def test_a_student_learns_the_teachers_odd_ideas():
    """Labels shifted by one class: with soft targets alone the student follows its teacher, not the labels."""
    shifted = (np.asarray(DIGITS.train["label"]) + 1) % 10
    answers = 10 * np.eye(10, dtype=np.float32)[shifted]
    source = dataclasses.replace(DIGITS, train={**DIGITS.train, distill.LOGITS: answers})
    net, prepare = member(0, hidden=32)
    graph, params = nnx.split(net)
    data = prepare({name: jnp.asarray(rows) for name, rows in source.train.items()})
    loss_fn, tx = distill.distillation(classification(), temperature=2.0, soft_weight=1.0), adam(0.01)

    @jax.jit
    def run(params):
        def step(carry, _):
            grads = jax.grad(lambda p: loss_fn(nnx.merge(graph, p), data, None)[0])(carry[0])
            updates, opt_state = tx.update(grads, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), opt_state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=60)[0][0]

    predicted = nnx.merge(graph, run(nnx.to_pure_dict(params)))(data["image"]).argmax(-1)
    assert (predicted == shifted).mean() > 0.9
