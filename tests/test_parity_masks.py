"""Dropout masks that both frameworks share."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from parity import masks

SHAPE = (2, 3, 4, 4)


def test_torch_takes_the_drawn_numbers_and_scales_what_stays():
    x = torch.rand(SHAPE, dtype=torch.float64) + 1
    with masks.in_torch(5, 2) as calls:
        made = F.dropout(x, 0.25)
        channels = torch.nn.Dropout2d(0.5)(x)
    stays = torch.as_tensor(masks.draw(5, 2, 0, SHAPE) < 0.75)
    torch.testing.assert_close(made, torch.where(stays, x / 0.75, 0.0))
    whole = torch.as_tensor(masks.draw(5, 2, 1, (2, 3, 1, 1)) < 0.5)
    torch.testing.assert_close(channels, torch.where(whole, x / 0.5, 0.0))
    assert calls == [{"shape": list(SHAPE), "rate": 0.25}, {"shape": [2, 3, 1, 1], "rate": 0.5}]


def test_nothing_is_drawn_in_evaluation_or_at_rate_zero_and_all_goes_at_rate_one():
    x = torch.ones(3)
    with masks.in_torch(0, 0) as calls:
        assert F.dropout(x, 0.5, training=False) is x
        assert F.dropout(x, 0.0) is x
        assert calls == []
        assert not F.dropout(x, 1.0).any()


def test_inplace_dropout_changes_its_input():
    x = torch.ones(100, dtype=torch.float64)
    with masks.in_torch(0, 0):
        assert F.dropout(x, 0.5, inplace=True) is x
    assert (x == 0).any()


def test_stochastic_depth_takes_the_drawn_numbers():
    with masks.in_torch(1, 0) as calls:
        kept = torch.empty(50, 1).bernoulli_(0.8)
    np.testing.assert_array_equal(kept.numpy(), masks.draw(1, 0, 0, (50, 1)) < 0.8)
    assert calls[0]["rate"] == pytest.approx(0.2)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_attention_is_torchs_own_where_every_mask_stays(options, monkeypatch):
    monkeypatch.setattr(masks, "draw", lambda _seed, _step, _call, shape: np.zeros(shape))
    q, k, v = (torch.rand(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    with masks.in_torch(0, 0) as calls:
        dropped = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, **options)
    torch.testing.assert_close(dropped, 2 * F.scaled_dot_product_attention(q, k, v, **options))
    assert calls == [{"shape": [2, 3, 5, 5], "rate": 0.5}]


def test_attention_with_a_mask_and_fewer_heads_for_keys(monkeypatch):
    monkeypatch.setattr(masks, "draw", lambda _seed, _step, _call, shape: np.zeros(shape))
    q = torch.rand(2, 4, 5, 4, dtype=torch.float64)
    k, v = (torch.rand(2, 2, 5, 4, dtype=torch.float64) for _ in range(2))
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    with masks.in_torch(0, 0):
        dropped = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=0.5, enable_gqa=True)
    torch.testing.assert_close(
        dropped, 2 * F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    )


@pytest.mark.parametrize(("dims", "shape"), [((), [2, 4, 4, 3]), ((1, 2), [2, 1, 1, 3])])
def test_flax_takes_torchs_numbers_with_its_own_axes(dims, shape, x64):
    del x64
    theirs = [2, 3, *(SHAPE[2:] if not dims else (1, 1))]
    (numbers,) = masks.draws(5, 2, [shape], [theirs])
    layer = nnx.Dropout(0.25, broadcast_dims=dims, rngs=nnx.Rngs(0))
    x = np.ones((2, 4, 4, 3))
    with masks.in_jax([numbers]) as calls:
        made = layer(jax.numpy.asarray(x), deterministic=False)
    stays = np.broadcast_to(masks.draw(5, 2, 0, theirs).transpose(0, 2, 3, 1) < 0.75, x.shape)
    np.testing.assert_allclose(made, np.where(stays, x / 0.75, 0), rtol=1e-12)
    assert calls == [{"shape": shape, "rate": 0.25}]


def test_calls_in_another_order_find_those_of_their_shape():
    assert masks.matched([(2, 5), (2, 7)], [(2, 7), (2, 5)]) == [1, 0]
    assert masks.matched([(2, 5), (2, 5), (9,)], [(2, 5)]) == [0, None, None]
    first, second = masks.draws(0, 0, [(2, 5), (2, 7)], [(2, 7), (2, 5)])
    np.testing.assert_array_equal(first, masks.draw(0, 0, 1, (2, 5)))
    np.testing.assert_array_equal(second, masks.draw(0, 0, 0, (2, 7)))


def test_a_given_order_of_axes_wins():
    (numbers,) = masks.draws(0, 0, [(3, 3, 3, 3)], [(3, 3, 3, 3)], axes=[(0, 2, 3, 1)])
    np.testing.assert_array_equal(numbers, masks.draw(0, 0, 0, (3, 3, 3, 3)).transpose(0, 2, 3, 1))


def test_masks_behind_a_flattened_image_have_the_ports_order():
    (numbers,) = masks.draws(0, 0, [(2, 24)], [(2, 24)], flattened=[(2, 3, 4)])
    theirs = masks.draw(0, 0, 0, (2, 24)).reshape(2, 4, 2, 3)
    np.testing.assert_array_equal(numbers, theirs.transpose(0, 2, 3, 1).reshape(2, 24))


def test_patches_are_gone_afterwards_even_after_an_error():
    before = F.dropout
    with pytest.raises(RuntimeError, match="boom"), masks.in_torch(0, 0):
        raise RuntimeError("boom")
    assert F.dropout is before
