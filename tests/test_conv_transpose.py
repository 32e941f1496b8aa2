import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from jax import lax

from jaxdl.engine import weights
from jaxdl.nn.conv_transpose import ConvTranspose2d, conv_transpose2d

CASES = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 3), "padding": (0, 1), "output_padding": (1, 2)},
    {"stride": 3, "padding": 2, "dilation": 2, "output_padding": 1},
    {"dilation": (1, 3), "output_padding": (0, 2)},
    {"groups": 2, "stride": 2},
]


def arrays(groups=1):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 5, 4, 4)), rng.normal(size=(4, 3, 4, 6 // groups)), rng.normal(size=6)


def torchs(x, weight, bias, options):
    """Output and gradients of a weighted sum, in our axes."""
    t = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = F.conv_transpose2d(t[0].permute(0, 3, 1, 2), t[1].permute(2, 3, 0, 1), t[2], **options).permute(0, 2, 3, 1)
    (y * torch.cos(y.detach())).sum().backward()
    return y.detach().numpy(), [part.grad.numpy() for part in t]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", CASES, ids=str)
def test_output_and_gradients_are_torchs(options):
    given = arrays(options.get("groups", 1))
    expected, gradients = torchs(*given, options)

    def total(x, weight, bias):
        y = conv_transpose2d(x, weight, bias, **options)
        return (y * jnp.cos(lax.stop_gradient(y))).sum(), y

    grads, y = jax.grad(total, (0, 1, 2), has_aux=True)(*map(jnp.asarray, given))
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(grads, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_lowering_of_other_platforms_is_the_same(options, monkeypatch):
    given = [jnp.asarray(a) for a in arrays(options.get("groups", 1))]
    here = conv_transpose2d(*given, **options)
    monkeypatch.setattr(lax, "platform_dependent", lambda *args, cpu, default: default(*args))  # noqa: ARG005
    jax.clear_caches()
    there = conv_transpose2d(*given, **options)
    jax.clear_caches()
    np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-12)


def test_the_module_has_torchs_names_shapes_and_bounds():
    module = ConvTranspose2d(6, 4, 3, groups=2, rngs=nnx.Rngs(0))
    named = {name: value[...] for name, value in nnx.to_flat_state(nnx.state(module, nnx.Param))}
    named = weights.to_torch(module, {".".join(name): np.asarray(value) for name, value in named.items()})
    theirs = torch.nn.ConvTranspose2d(6, 4, 3, groups=2)
    assert {name: value.shape for name, value in named.items()} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
    bound = 1 / np.sqrt(2 * 9)  # torch's fan-in is that of the second axis: 4 / 2 channels
    for state in (named, {name: value.numpy() for name, value in theirs.state_dict().items()}):
        assert all(np.abs(value).max() <= bound * (1 + 1e-6) for value in state.values())
        assert np.abs(state["weight"]).max() > 0.9 * bound  # the largest of 108 uniform draws
    assert ConvTranspose2d(2, 3, 2, bias=False, rngs=nnx.Rngs(0)).bias is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"output_padding": 1},
            r"expected an output_padding below stride \(1, 1\) or dilation",
        ),
        ({"padding": 5}, "an image of 5x4 would become one of -2x-4 pixels"),
        ({"groups": 3}, r"expected x \(B, H, W, Cin\) and weight .* multiple of 3, got \(2, 5, 4, 4\)"),
    ],
)
def test_what_does_not_fit_is_an_error(options, message):
    x, weight, _ = arrays()
    with pytest.raises(ValueError, match=message):
        conv_transpose2d(jnp.asarray(x), jnp.asarray(weight), **options)


def test_groups_have_to_divide_the_channels():
    with pytest.raises(ValueError, match=r"expected groups that divide in and out channels \(4, 6\), got 4"):
        ConvTranspose2d(4, 6, 3, groups=4, rngs=nnx.Rngs(0))
