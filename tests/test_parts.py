import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import parts
from jaxdl.config import ModelOptions, OptimizerOptions
from jaxdl.models import MODELS
from jaxdl.optim.optimizers import OPTIMIZERS, rates
from jaxdl.pictures import Pictures

KEY = jax.random.key(0)


def applied_rates(options, updates_per_epoch, steps):
    """The rate of each step, as the optimizer applied it."""
    tx = parts.optimizer(options, updates_per_epoch, steps)
    params = {"w": jnp.ones(2)}
    state, found = tx.init(params), []
    for _ in range(steps):
        _, state = tx.update(params, state, params)
        found.append(float(rates(state)[0].rate))
    return found


def torch_rates(make, steps_per_epoch, steps, lr=0.1, every_step=False):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    scheduler, found = make(optimizer), []
    for step in range(1, steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if every_step or step % steps_per_epoch == 0:
            scheduler.step()
    return found


SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("options", "make", "every_step"),
    [
        ({"schedule": "step", "step_size": 2, "gamma": 0.5}, lambda o: SCHEDULERS.StepLR(o, 2, 0.5), False),
        (
            {"schedule": "multi_step", "milestones": (1, 3)},
            lambda o: SCHEDULERS.MultiStepLR(o, [1, 3]),
            False,
        ),
        ({"schedule": "exponential", "gamma": 0.9}, lambda o: SCHEDULERS.ExponentialLR(o, 0.9), False),
        ({"schedule": "cosine"}, lambda o: SCHEDULERS.CosineAnnealingLR(o, 12), True),
        (
            {"schedule": "one_cycle"},
            lambda o: SCHEDULERS.OneCycleLR(o, 0.1, total_steps=13, cycle_momentum=False),
            True,
        ),
    ],
)
def test_schedules_count_as_a_torch_user_calls_them(options, make, every_step):
    steps = 13 if options["schedule"] == "one_cycle" else 12
    found = applied_rates(OptimizerOptions(lr=0.1, **options), 3, steps)
    np.testing.assert_allclose(found, torch_rates(make, 3, steps, every_step=every_step), rtol=1e-5, atol=1e-9)


def test_warm_up_rises_to_the_rate():
    found = applied_rates(OptimizerOptions(lr=0.3, warmup_epochs=1.0), 3, 6)
    assert found == pytest.approx([0.1, 0.1 + 0.2 / 3, 0.1 + 0.4 / 3, 0.3, 0.3, 0.3])


def test_accumulated_batches_are_one_step_of_the_schedule():
    options = OptimizerOptions(lr=0.1, schedule="step", step_size=1, gamma=0.5, accumulate=2)
    assert applied_rates(options, 4, 8) == pytest.approx([0.1] * 5 + [0.05] * 3)  # the rate of the latest update


@pytest.mark.parametrize(
    ("name", "lr"), [("sgd", 0.01), ("adam", 1e-3), ("adamw", 1e-3), ("rmsprop", 1e-2), ("adagrad", 1e-2)]
)
def test_without_a_rate_it_is_torchs_or_the_documents(name, lr):
    assert applied_rates(OptimizerOptions(optimizer=name), 1, 1) == pytest.approx([lr])


def test_an_option_that_the_optimizer_has_no_use_for_is_an_error():
    for name in OPTIMIZERS:
        takes = parts.TAKES[name]
        for option, value in {"dampening": 0.5, "alpha": 0.5, "centered": True, "betas": (0.5, 0.5)}.items():
            options = dataclasses.replace(OptimizerOptions(optimizer=name), **{option: value})
            if option in takes:
                parts.optimizer(options, 1, 1)
            else:
                with pytest.raises(ValueError, match=f"--{option} has no meaning for {name}"):
                    parts.optimizer(options, 1, 1)


SEEN = Pictures((8, 8, 1), tuple("abcde"))


def test_an_option_that_the_model_has_no_use_for_is_an_error():
    values = {"hidden": 12, "dropout": 0.5, "stem": "cifar", "patch": 2, "depth": 1, "heads": 2}
    for name in MODELS:
        for option, value in values.items():
            options = ModelOptions(name, **{option: value})
            if option in parts.TAKES[name]:
                jax.eval_shape(lambda key, options=options: nnx.state(parts.model(options, SEEN, key)), KEY)
            else:
                with pytest.raises(ValueError, match=f"--{option} has no meaning for {name}"):
                    parts.model(options, SEEN, KEY)


@pytest.mark.parametrize(
    ("name", "option"), [("net", "hidden"), ("vit", "depth"), ("vit", "heads"), ("vit", "patch")]
)
def test_a_size_below_one_is_an_error(name, option):
    with pytest.raises(ValueError, match=f"--{option} must be at least 1; got 0"):
        parts.model(ModelOptions(name, **{option: 0}), SEEN, KEY)


def test_options_that_are_given_reach_the_model():
    options = ModelOptions("vit", hidden=6, depth=2, heads=2, patch=2)
    vit = nnx.eval_shape(lambda key: parts.model(options, SEEN, key), KEY)
    assert vit.encoder.pos_embedding.shape == (1, 17, 6)
    assert (len(vit.encoder.layers), vit.encoder.layers["encoder_layer_1"].self_attention.num_heads) == (2, 2)


def test_clipping_comes_before_the_optimizer():
    tx = parts.optimizer(OptimizerOptions(lr=1.0, clip_norm=0.5), 1, 1)
    grads = {"w": jnp.array([3.0, 4.0])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates["w"], [-0.3, -0.4], rtol=1e-5)
    tx = parts.optimizer(OptimizerOptions(lr=1.0, clip_value=3.5), 1, 1)
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates["w"], [-3.0, -3.5])
