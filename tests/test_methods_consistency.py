"""Losses against torch in float64, and the teacher against torch's AveragedModel."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from jaxdl import tree
from jaxdl.data import sources
from jaxdl.data.loader import Loader
from jaxdl.engine.objective import classification
from jaxdl.methods import consistency
from jaxdl.models import Net
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import adam

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((2 + 2 * 6, 4, 4, 1)), RNG.integers(0, 3, 2).astype(np.int32)


def student(**options):
    net = Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0), **options)
    nnx.update(net, jax.tree.map(lambda leaf: 3 * leaf.astype(float), nnx.state(net)))
    return net


def twin(net):
    module = torch.nn.ModuleDict({"fc1": torch.nn.Linear(16, 5), "fc2": torch.nn.Linear(5, 3)}).double()
    values = tree.flatten(nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in values.items()})
    return module


def said(module, images):
    return module["fc2"](torch.relu(module["fc1"](torch.tensor(images).flatten(1))))


def labelled_loss(module, images=IMAGES):
    return F.cross_entropy(said(module, images[:2]), torch.tensor(LABELS).long())


def batch(images=IMAGES):
    return {"image": jnp.asarray(images), "label": jnp.asarray(LABELS)}


def gradients(model, loss_fn, given):
    """The loss, its metrics, the gradients by name and the statistics afterwards."""
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    def objective(params):
        merged = nnx.merge(graph, params, nnx.to_pure_dict(stats))
        loss, metrics = loss_fn(merged, given, None)
        return loss, (metrics, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

    (loss, (metrics, after)), grads = jax.value_and_grad(objective, has_aux=True)(nnx.to_pure_dict(params))
    return loss, metrics, tree.flatten(grads), after


def assert_same_gradients(grads, module, prefix=""):
    for name, value in module.named_parameters():
        np.testing.assert_allclose(grads[prefix + name], value.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_fixmatch_is_torchs():
    net = student()
    module = twin(net)
    with torch.no_grad():
        most, label = torch.softmax(said(module, IMAGES[2:8]), 1).max(1)
    threshold = most.sort().values[2:4].mean().item()  # half of them are sure enough
    loss, metrics, grads, _ = gradients(net, consistency.fixmatch(classification(), 0.7, threshold), batch())
    mask = most >= threshold
    assert 0 < mask.sum() < 6
    strong = F.cross_entropy(said(module, IMAGES[8:]), label, reduction="none")
    expected = labelled_loss(module) + 0.7 * (strong * mask).mean()
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    assert_same_gradients(grads, module)
    assert [float(part) for part in metrics["sure"]] == [mask.sum().item(), 6]


@pytest.mark.usefixtures("x64")
def test_the_pi_model_is_torchs():
    net = student()
    module = twin(net)
    loss, _, grads, after = gradients(
        consistency.Counted(net), consistency.pi_model(classification(), 5.0), batch()
    )
    first, second = (torch.softmax(said(module, IMAGES[rows]), 1) for rows in (slice(2, 8), slice(8, 14)))
    expected = labelled_loss(module) + 5 * F.mse_loss(first, second)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    assert_same_gradients(grads, module, "student.")
    assert after["steps"] == 1


@pytest.mark.usefixtures("x64")
def test_r_drop_is_torchs():
    """Without dropout both passes agree, so the two logits are compared by themselves."""
    first, second = RNG.normal(size=(2, 6, 3))
    grads = jax.grad(consistency.rdrop_loss, (0, 1))(jnp.asarray(first), jnp.asarray(second))
    p, q = (torch.tensor(x, requires_grad=True) for x in (first, second))
    there, back = (
        F.kl_div(F.log_softmax(a, -1), F.softmax(b, -1), reduction="batchmean") for a, b in ((p, q), (q, p))
    )
    expected = (there + back) / 2
    expected.backward()
    np.testing.assert_allclose(consistency.rdrop_loss(jnp.asarray(first), jnp.asarray(second)), expected.item())
    np.testing.assert_allclose(grads[0], p.grad, rtol=1e-10)
    np.testing.assert_allclose(grads[1], q.grad, rtol=1e-10)


def test_r_drop_compares_two_dropout_masks():
    model = nnx.view(Net((4, 4, 1), 3, hidden=64, dropout=0.5, rngs=nnx.Rngs(0)), deterministic=False)
    given = {"image": jnp.asarray(IMAGES[:2], jnp.float32), "label": jnp.asarray(LABELS)}
    loss_fn = consistency.r_drop(classification(), 1.0)
    loss, metrics = loss_fn(model, given, nnx.Rngs(dropout=1))
    apart = metrics["consistency"][0]
    assert apart > 0
    assert metrics["loss"][1] == 4  # two images, twice
    np.testing.assert_allclose(loss, metrics["loss"][0] / 4 + apart, rtol=1e-6)
    same, _ = loss_fn(nnx.view(model, deterministic=True), given, None)
    plain, _ = classification()(nnx.view(model, deterministic=True), given, None)
    np.testing.assert_allclose(same, plain, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_ema_is_torchs():
    average, value = RNG.normal(size=(2, 4, 3))
    theirs = [torch.tensor(average)]
    get_ema_multi_avg_fn(0.9)(theirs, [torch.tensor(value)], 1)
    found = consistency.ema({"a": jnp.asarray(average)}, {"a": jnp.asarray(value)}, 0.9)
    np.testing.assert_allclose(found["a"], theirs[0], rtol=1e-14)


@pytest.mark.usefixtures("x64")
def test_a_mean_teacher_is_trained_as_with_torchs_averaged_model():
    """Student, teacher and the losses over four steps of SGD, and the teacher that is deployed."""
    net = student()
    module = twin(net)
    averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.6))
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    graph, params, stats = nnx.split(consistency.MeanTeacher(net, 0.6), nnx.Param, nnx.BatchStat)
    params, stats, loss_fn = nnx.to_pure_dict(params), nnx.to_pure_dict(stats), None
    loss_fn = consistency.mean_teacher(classification(), 3.0, ramp=3)
    for step in range(4):
        images = np.random.default_rng(step).random(IMAGES.shape)
        model = nnx.merge(graph, params, stats)
        loss, _, grads, stats = gradients(model, loss_fn, batch(images))
        with torch.no_grad():
            target = torch.softmax(said(averaged.module, images[8:]), 1)
        weight = 3 * np.exp(-5 * (1 - min(step / 3, 1)) ** 2)
        expected = labelled_loss(module, images) + weight * F.mse_loss(
            torch.softmax(said(module, images[2:8]), 1), target
        )
        optimizer.zero_grad()
        expected.backward()
        np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
        assert_same_gradients(grads, module, "student.")
        optimizer.step()
        averaged.update_parameters(module)
        params = tree.map_named(lambda name, value, grads=grads: value - 0.5 * grads[name], params)
    deployed, rest = consistency.deploy_teacher((params, stats), 0.6)
    assert rest == {}
    for name, value in averaged.module.state_dict().items():
        np.testing.assert_allclose(tree.flatten(deployed)[name], value, rtol=1e-12)


class Normed(nnx.Module):
    """A model with parameters and running statistics."""

    def __init__(self):
        self.net, self.norm = Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0)), BatchNorm(3)

    def __call__(self, x, rngs=None):
        return self.norm(self.net(x, rngs))


def test_a_teacher_of_a_model_with_statistics_has_the_students():
    given = {"image": jnp.asarray(IMAGES, jnp.float32), "label": jnp.asarray(LABELS)}
    model = consistency.MeanTeacher(Normed(), 0.9)
    assert not jax.tree.leaves(nnx.state(model.teacher, nnx.Param))
    _, _, _, stats = gradients(model, consistency.mean_teacher(classification(), 1.0), given)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    deployed, rest = consistency.deploy_teacher((params, stats), 0.9)
    plain = nnx.split(Normed(), nnx.Param, nnx.BatchStat)[1:]
    for found, wanted in zip((deployed, rest), plain, strict=True):
        assert tree.flatten(found).keys() == tree.flatten(nnx.to_pure_dict(wanted)).keys()
    np.testing.assert_array_equal(rest["norm"]["running_mean"], stats["student"]["norm"]["running_mean"])


def test_the_weight_rises_as_laine_and_aila_have_it():
    found = [float(consistency.ramp_up(jnp.asarray(step), 4)) for step in (0, 2, 4, 9)]
    np.testing.assert_allclose(found, [np.exp(-5), np.exp(-1.25), 1, 1], rtol=1e-6)
    assert consistency.ramp_up(jnp.asarray(0), 0) == 1


DIGITS = sources.load("digits")


def test_every_image_is_there_without_its_label_and_few_have_one():
    source = consistency.with_unlabelled(DIGITS, labels=20, ratio=3, seed=1)
    images, count = DIGITS.train["image"], len(DIGITS.train["label"]) // 3
    unlabelled = source.train[consistency.UNLABELLED].reshape(-1, *images.shape[1:])
    assert len(source.train["label"]) == count
    rows = {image.tobytes() for image in images}
    assert {image.tobytes() for image in unlabelled} <= rows
    assert len(unlabelled) == 3 * count >= len(images) - 2
    known = {
        (image.tobytes(), int(label))
        for image, label in zip(source.train["image"], source.train["label"], strict=True)
    }
    assert len(known) == 20
    np.testing.assert_array_equal(np.bincount([label for _, label in known]), [2] * 10)
    true = {image.tobytes(): int(label) for image, label in zip(images, DIGITS.train["label"], strict=True)}
    assert all(true[image] == label for image, label in known)
    again = consistency.with_unlabelled(DIGITS, labels=20, ratio=3, seed=1)
    np.testing.assert_array_equal(source.train["image"], again.train["image"])


def test_a_batch_has_the_labelled_images_first_then_each_view():
    source = consistency.with_unlabelled(DIGITS, labels=10, ratio=2, seed=0)
    loader = Loader(source.train, 4, seed=0)
    stored = loader.take(loader.resident_arrays, jnp.asarray(loader.rows(0)))

    def plus(amount):
        return lambda key, given: {**given, "image": given["image"].astype(jnp.float32) + amount}  # noqa: ARG005

    made = consistency.views(plus(0), plus(100), plus(200))(jax.random.key(0), stored)
    assert set(made) == {"image", "label"}
    rest = np.asarray(stored[consistency.UNLABELLED], np.float32).reshape(8, 8, 8, 1)
    np.testing.assert_array_equal(made["image"], np.concatenate([stored["image"], rest + 100, rest + 200]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: consistency.fixmatch(classification(), 1.0, 1.2), r"threshold must lie in \[0, 1\]; got 1.2"),
        (lambda: consistency.MeanTeacher(Normed(), 1.0), r"decay of the teacher must lie in \[0, 1\); got 1.0"),
        (lambda: consistency.with_unlabelled(DIGITS, 9, 4, 0), "expected from 10 .one a class. to .* got 9"),
        (lambda: consistency.with_unlabelled(DIGITS, 20, 0, 0), "--ratio must lie between 1 and .*; got 0"),
    ],
)
def test_numbers_out_of_range_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fixmatch_learns_from_images_without_labels():
    """Two labelled images of two clouds; those without labels say where the clouds end."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 200)
    points = (np.where(side, 1.5, -1.5)[:, None] + rng.normal(size=(200, 4))).astype(np.float32)
    images = points.reshape(200, 2, 2, 1)
    net = Net((2, 2, 1), 2, hidden=16, rngs=nnx.Rngs(0))
    graph, params = nnx.split(net)
    known = [int(np.argmax(side == label)) for label in (0, 1)]
    noisy = images + 0.3 * rng.normal(size=images.shape).astype(np.float32)
    given = {
        "image": jnp.asarray(np.concatenate([images[known], images, noisy])),
        "label": jnp.asarray([0, 1], jnp.int32),
    }
    loss_fn, tx = consistency.fixmatch(classification(), 1.0, 0.8), adam(0.02)

    @jax.jit
    def run(params):
        def step(carry, _):
            grads, metrics = jax.grad(lambda p: loss_fn(nnx.merge(graph, p), given, None), has_aux=True)(carry[0])
            updates, opt_state = tx.update(grads, carry[1], carry[0])
            return (optax.apply_updates(carry[0], updates), opt_state), metrics["sure"][0]

        return jax.lax.scan(step, (params, tx.init(params)), length=80)

    (params, _), sure = run(nnx.to_pure_dict(params))
    accuracy = (nnx.merge(graph, params)(jnp.asarray(images)).argmax(-1) == side).mean()
    assert accuracy > 0.97
    assert sure[-1] > sure[0]
