"""BatchNorm and LayerNorm against torch: values, gradients, running statistics, bfloat16, and what they refuse."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.engine.step import cast
from jaxdl.nn.norm import BatchNorm, LayerNorm

SHAPES = {"rows": (6, 3), "images": (4, 5, 2, 3), "sequences": (4, 5, 3), "two values": (2, 3)}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * 3 + 1


def twins(features: int = 3, **options: Any) -> tuple[BatchNorm, torch.nn.BatchNorm1d]:
    """Both with the same weight and bias, and statistics that are not the initial ones, in float64."""
    theirs = torch.nn.BatchNorm1d(features, **options).double()
    values = {"weight": normal(features, seed=1), "bias": normal(features, seed=2)}
    stats = {"running_mean": normal(features, seed=3), "running_var": normal(features, seed=4) ** 2}
    ours = BatchNorm(features, **options)
    nnx.update(ours, {name: jnp.asarray(value) for name, value in (values | stats).items()})
    theirs.load_state_dict({name: torch.tensor(value) for name, value in (values | stats).items()}, strict=False)
    return ours, theirs


def flat(theirs: torch.nn.BatchNorm1d, x: torch.Tensor) -> torch.Tensor:
    """torch's layer over the last axis: it counts every other axis as the batch."""
    return theirs(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def assert_same_statistics(ours: BatchNorm, theirs: torch.nn.BatchNorm1d) -> None:
    for name, value in nnx.to_pure_dict(nnx.state(ours, nnx.BatchStat)).items():
        np.testing.assert_allclose(value, theirs.state_dict()[name].numpy(), rtol=1e-12, err_msg=name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("training", [True, False])
@shapes
def test_value_and_gradients_are_torchs(shape, training):
    ours, theirs = twins()
    theirs.train(training)
    graphdef, params, stats = nnx.split(nnx.view(ours, use_running_average=not training), nnx.Param, nnx.BatchStat)
    stats = nnx.to_pure_dict(stats)

    @jax.jit
    def both(params, x):
        value, pullback = jax.vjp(lambda params, x: nnx.merge(graphdef, params, stats)(x), params, x)
        return value, *pullback(jnp.linspace(-1, 1, x.size).reshape(x.shape) ** 3)

    value, grads, grad_x = both(nnx.to_pure_dict(params), jnp.asarray(normal(*shape)))
    x = torch.tensor(normal(*shape), requires_grad=True)
    expected = flat(theirs, x)
    expected.backward(torch.linspace(-1, 1, x.numel(), dtype=x.dtype).reshape(x.shape) ** 3)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grad_x, np.asarray(x.grad), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(grads["weight"], np.asarray(theirs.weight.grad), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(grads["bias"], np.asarray(theirs.bias.grad), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("momentum", [0.1, 1.0])
@shapes
def test_the_running_statistics_follow_as_torchs_over_several_batches(shape, momentum):
    ours, theirs = twins(momentum=momentum, eps=0.01)
    batches = [normal(*shape, seed=seed) for seed in range(3)]
    for x in batches:
        expected = flat(theirs, torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(ours(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-12)
        assert_same_statistics(ours, theirs)
    assert ours.num_batches_tracked == 3
    evaluated = nnx.view(ours, use_running_average=True)
    expected = flat(theirs.eval(), torch.tensor(batches[0])).detach().numpy()
    np.testing.assert_allclose(evaluated(jnp.asarray(batches[0])), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_over_images_it_is_torchs_batch_norm_2d():
    x = normal(4, 5, 6, 3)
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm2d(3).double()
    expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(ours(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.running_var[...], theirs.state_dict()["running_var"].numpy(), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_running_variance_is_unbiased_and_the_normalising_one_is_not():
    layer = BatchNorm(1, momentum=1.0, eps=0.0)
    y = layer(jnp.array([[1.0], [3.0]]))
    assert y.tolist() == [[-1.0], [1.0]]  # divided by the biased deviation, 1
    assert layer.running_mean[...].tolist() == [2.0]
    assert layer.running_var[...].tolist() == [2.0]


@pytest.mark.usefixtures("x64")
def test_evaluation_leaves_the_statistics_alone():
    ours, _ = twins()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(ours)))
    nnx.view(ours, use_running_average=True)(jnp.asarray(normal(1, 3)))
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(ours)), before)
    assert not ours.use_running_average


def test_starts_as_torchs_does_under_its_names():
    ours, theirs = BatchNorm(4), torch.nn.BatchNorm2d(4)
    assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)
    state = nnx.to_pure_dict(nnx.state(ours))
    assert set(state) == set(theirs.state_dict())
    for name, value in state.items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy())


@pytest.mark.parametrize("training", [True, False])
def test_in_bfloat16_it_computes_in_the_dtype_of_its_statistics(training):
    x = jnp.asarray(normal(64, 3) + 100, jnp.bfloat16)
    wide = BatchNorm(3, use_running_average=not training)
    nnx.update(wide, {"weight": jnp.array([0.5, 1, 2]), "running_mean": jnp.full(3, 100.0)})
    graphdef, params, stats = nnx.split(wide, nnx.Param, nnx.BatchStat)
    narrow = nnx.merge(graphdef, cast(nnx.to_pure_dict(params), jnp.bfloat16), nnx.to_pure_dict(stats))
    found, expected = narrow(x), wide(x.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    assert (found == expected.astype(jnp.bfloat16)).all()
    for name, value in nnx.to_pure_dict(nnx.state(wide, nnx.BatchStat)).items():
        ours = getattr(narrow, name)[...]
        assert ours.dtype == value.dtype
        assert (ours == value).all(), name


def test_the_gradients_of_a_bfloat16_step_have_the_dtype_of_its_arguments():
    graphdef, params, stats = nnx.split(BatchNorm(3), nnx.Param, nnx.BatchStat)

    def loss(params, x):
        model = nnx.merge(graphdef, cast(params, jnp.bfloat16), nnx.to_pure_dict(stats))
        return (model(x) ** 3).sum()

    grads, grad_x = jax.grad(loss, argnums=(0, 1))(
        nnx.to_pure_dict(params), jnp.asarray(normal(8, 3), jnp.bfloat16)
    )
    assert {name: value.dtype for name, value in grads.items()} == {"weight": jnp.float32, "bias": jnp.float32}
    assert grad_x.dtype == jnp.bfloat16
    assert all(jnp.abs(value).max() > 0 for value in grads.values())


@pytest.mark.usefixtures("x64")
def test_batches_inside_a_scan_leave_the_statistics_of_batches_one_by_one():
    ours, theirs = twins()
    graphdef, params, stats = nnx.split(ours, nnx.Param, nnx.BatchStat)
    batches = normal(4, 5, 3)

    @jax.jit
    def run(stats, batches):
        def one(stats, x):
            model = nnx.merge(graphdef, params, stats)
            y = model(x)
            return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), y

        return jax.lax.scan(one, stats, batches)

    last, ys = run(nnx.to_pure_dict(stats), jnp.asarray(batches))
    expected = np.stack([flat(theirs, torch.tensor(x)).detach().numpy() for x in batches])
    np.testing.assert_allclose(ys, expected, rtol=1e-12, atol=1e-12)
    nnx.update(ours, last)
    assert_same_statistics(ours, theirs)


def test_the_statistics_carry_no_gradient():
    graphdef, state = nnx.split(BatchNorm(2))

    @jax.grad
    def moved(x):
        model = nnx.merge(graphdef, nnx.to_pure_dict(state))
        model(x)
        return model.running_mean[...].sum() + model.running_var[...].sum()

    assert (moved(jnp.arange(6.0).reshape(3, 2)) == 0).all()


@pytest.mark.parametrize("shape", [(4, 2), (4, 3, 1), ()])
def test_another_number_of_channels_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected 3 channels in the last axis, got shape"):
        BatchNorm(3)(jnp.ones(shape))


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3), (3,), (0, 3)])
def test_training_on_one_value_per_channel_is_refused(shape):
    with pytest.raises(ValueError, match="expected more than one value per channel in training, got shape"):
        BatchNorm(3)(jnp.ones(shape))


class TestLayerNorm:
    @pytest.mark.usefixtures("x64")
    @pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 5, 3)])
    def test_value_and_gradients_are_torchs(self, shape):
        theirs = torch.nn.LayerNorm(3, eps=0.01).double()
        values = {"weight": normal(3, seed=1), "bias": normal(3, seed=2)}
        theirs.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
        graphdef, _ = nnx.split(LayerNorm(3, eps=0.01))
        x = normal(*shape) + 1e4  # where the mean of squares less the squared mean would be noise
        params = {name: jnp.asarray(value) for name, value in values.items()}
        value, pullback = jax.vjp(lambda params, x: nnx.merge(graphdef, params)(x), params, jnp.asarray(x))
        grads, grad_x = pullback(jnp.linspace(-1, 1, x.size).reshape(shape) ** 3)
        leaf = torch.tensor(x, requires_grad=True)
        expected = theirs(leaf)
        expected.backward(torch.linspace(-1, 1, x.size, dtype=torch.float64).reshape(shape) ** 3)
        np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(grad_x, np.asarray(leaf.grad), rtol=1e-8, atol=1e-10)
        for name, grad in grads.items():
            np.testing.assert_allclose(grad, np.asarray(getattr(theirs, name).grad), rtol=1e-10, atol=1e-10)

    def test_starts_as_torchs_does_under_its_names(self):
        ours, theirs = LayerNorm(4), torch.nn.LayerNorm(4)
        assert ours.eps == theirs.eps
        state = nnx.to_pure_dict(nnx.state(ours))
        assert set(state) == set(theirs.state_dict())
        for name, value in state.items():
            np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy())

    def test_in_bfloat16_it_computes_in_float32(self):
        x = jnp.asarray(normal(8, 64) + 100, jnp.bfloat16)
        found, expected = LayerNorm(64)(x), LayerNorm(64)(x.astype(jnp.float32))
        assert found.dtype == jnp.bfloat16
        assert (found == expected.astype(jnp.bfloat16)).all()

    @pytest.mark.parametrize("shape", [(4, 2), (4, 3, 1), ()])
    def test_another_number_of_features_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"expected 3 features in the last axis, got shape"):
            LayerNorm(3)(jnp.ones(shape))
