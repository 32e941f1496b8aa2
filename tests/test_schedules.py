"""Schedules against torch's schedulers at every count in float64, their laws and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from jaxdl.optim import schedules

LR = 0.3
COUNTS = 60
CASES = [
    (schedules.constant(LR), lr_scheduler.LambdaLR, {"lr_lambda": lambda _: 1.0}),
    (schedules.step_lr(LR, 7, 0.5), lr_scheduler.StepLR, {"step_size": 7, "gamma": 0.5}),
    (schedules.multi_step_lr(LR, [30, 5, 5]), lr_scheduler.MultiStepLR, {"milestones": [30, 5, 5]}),
    (schedules.multi_step_lr(LR, []), lr_scheduler.MultiStepLR, {"milestones": []}),
    (schedules.exponential_lr(LR, 0.9), lr_scheduler.ExponentialLR, {"gamma": 0.9}),
    (schedules.linear_lr(LR), lr_scheduler.LinearLR, {}),
    (
        schedules.linear_lr(LR, 1.0, 0.0, 40),
        lr_scheduler.LinearLR,
        {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 40},
    ),
    (schedules.cosine_annealing_lr(LR, 25), lr_scheduler.CosineAnnealingLR, {"T_max": 25}),
    (schedules.cosine_annealing_lr(LR, 25, 0.1), lr_scheduler.CosineAnnealingLR, {"T_max": 25, "eta_min": 0.1}),
]
ONE_CYCLE = [
    {},
    {"anneal_strategy": "linear", "div_factor": 10.0, "final_div_factor": 100.0},
    {"three_phase": True},
    {"three_phase": True, "pct_start": 0.7, "anneal_strategy": "linear"},
    {"pct_start": 0.0},
    {"pct_start": 1.0},
    {"pct_start": 0.01},
]


def rates(schedule, counts=COUNTS):
    """The schedule under jit with int32 counts."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(counts, dtype=jnp.int32)))


def rates_of_torch(make, counts=COUNTS):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    seen = [optimizer.param_groups[0]["lr"]]
    for _ in range(counts - 1):
        optimizer.step()
        scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return np.array(seen)


def assert_same(ours, theirs):
    """To 1e-14 of the base rate: near a rate of 0 both sides subtract numbers of that size."""
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14 * LR)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("schedule", "scheduler", "options"), CASES, ids=lambda case: getattr(case, "__name__", "")
)
def test_equals_torch(schedule, scheduler, options):
    assert_same(rates(schedule), rates_of_torch(lambda optimizer: scheduler(optimizer, **options)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", ONE_CYCLE, ids=str)
@pytest.mark.parametrize("total", [COUNTS, 7, 2])
def test_one_cycle_equals_torch(options, total):
    def make(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, LR, total, cycle_momentum=False, **options)

    assert_same(rates(schedules.one_cycle_lr(LR, total, **options), total), rates_of_torch(make, total))


@pytest.mark.usefixtures("x64")
def test_warmup_equals_torchs_sequence():
    def make(optimizer):
        first = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=8)
        then = lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
        return lr_scheduler.SequentialLR(optimizer, [first, then], milestones=[8])

    warmed = schedules.warmup(schedules.cosine_annealing_lr(LR, 50), 8, start_factor=0.1)
    assert_same(rates(warmed), rates_of_torch(make))


def test_per_epoch_holds_the_rate_for_an_epoch():
    schedule = schedules.per_epoch(schedules.step_lr(1.0, 2, 0.5), steps_per_epoch=3)
    np.testing.assert_array_equal(rates(schedule, 14), [1.0] * 6 + [0.5] * 6 + [0.25] * 2)


def test_by_hand():
    np.testing.assert_allclose(
        rates(schedules.cosine_annealing_lr(2.0, 2, 1.0), 5), [2, 1.5, 1, 1.5, 2], rtol=1e-6
    )
    np.testing.assert_allclose(rates(schedules.linear_lr(1.0, 0.5, 1.0, 2), 4), [0.5, 0.75, 1, 1], rtol=1e-6)
    # up from 1 to 4 in counts 0 to 2, down to 0.5 in counts 2 to 4, and it stays there
    cycle = schedules.one_cycle_lr(4.0, 5, 0.6, "linear", div_factor=4.0, final_div_factor=2.0)
    np.testing.assert_allclose(rates(cycle, 7), [1, 2.5, 4, 2.25, 0.5, 0.5, 0.5], rtol=1e-6)


@settings(max_examples=25)
@given(st.sampled_from([schedule for schedule, _, _ in CASES]), st.integers(0, 200), st.integers(1, 20))
def test_laws(schedule, count, steps):
    with jax.enable_x64(True):
        rate = schedule(count)
        assert 0 <= rate <= LR * (1 + 1e-15)
        assert rate == schedule(jnp.int32(count))
        assert schedules.per_epoch(schedule, steps)(count * steps + steps - 1) == rate
        warmed = schedules.warmup(schedule, steps)
        np.testing.assert_allclose(warmed(count + steps), rate, rtol=1e-15)
        assert warmed(count % steps) < schedule(0)


@pytest.mark.parametrize("schedule", [case[0] for case in CASES] + [schedules.one_cycle_lr(LR, COUNTS)])
def test_float32_without_x64(schedule):
    single = rates(schedule)
    assert single.dtype == np.float32
    with jax.enable_x64(True):
        np.testing.assert_allclose(single, rates(schedule), rtol=0, atol=1e-6 * LR)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.constant(-1.0), "the rate must be 0 or more, got -1.0"),
        (lambda: schedules.exponential_lr(float("nan"), 0.9), "the rate must be 0 or more, got nan"),
        (lambda: schedules.one_cycle_lr(-LR, 10), "the rate must be 0 or more, got -0.3"),
        (lambda: schedules.step_lr(LR, 0), "step_size must be 1 or more, got 0"),
        (lambda: schedules.multi_step_lr(LR, [5, 0]), "every milestone must be 1 or more, got 0"),
        (lambda: schedules.cosine_annealing_lr(LR, 0), "t_max must be 1 or more"),
        (lambda: schedules.linear_lr(LR, total_iters=0), "total_iters must be 1 or more"),
        (lambda: schedules.linear_lr(LR, 0.0), "start_factor must be above 0 and at most 1, got 0.0"),
        (lambda: schedules.linear_lr(LR, 1.0, 1.5), r"end_factor must be in \[0, 1\], got 1.5"),
        (lambda: schedules.warmup(schedules.constant(LR), 0), "total_iters must be 1 or more"),
        (lambda: schedules.per_epoch(schedules.constant(LR), 0), "steps_per_epoch must be 1 or more"),
        (lambda: schedules.one_cycle_lr(LR, 0), "total_steps must be 1 or more"),
        (lambda: schedules.one_cycle_lr(LR, 10, 1.5), r"pct_start must be in \[0, 1\]"),
        (lambda: schedules.one_cycle_lr(LR, 10, 0.1), "and not 1 / total_steps, got 0.1"),
        (lambda: schedules.one_cycle_lr(LR, 10, anneal_strategy="sin"), "'cos' or 'linear', got 'sin'"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("strategy", "anneal"), [("cos", 10), ("linear", 7), ("cos", 1)])
def test_swa_takes_over_from_another_schedule_as_torchs(strategy, anneal):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    first = lr_scheduler.StepLR(optimizer, 7, 0.5)
    second = torch.optim.swa_utils.SWALR(optimizer, 0.05, anneal, strategy)
    theirs = []
    for epoch in range(40):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        (first if epoch < 20 else second).step()
    ours = schedules.swa_lr(schedules.step_lr(LR, 7, 0.5), 20, 0.05, anneal, strategy)
    np.testing.assert_allclose(rates(ours, 40), theirs, rtol=0, atol=1e-14)


def test_swa_without_annealing_has_its_rate_at_once():
    ours = schedules.swa_lr(schedules.constant(LR), 3, 0.05, 0)
    np.testing.assert_allclose(rates(ours, 6), [LR] * 3 + [0.05] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [((-1, 0.1), "start and anneal must be 0 or more"), ((1, 0.1, 5, "sin"), "anneal_strategy must be 'cos'")],
)
def test_swa_with_a_wrong_option_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        schedules.swa_lr(schedules.constant(LR), *options)
