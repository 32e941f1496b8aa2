"""Learning rates as functions of the step."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch.optim import lr_scheduler

from jaxdl.optim import schedules
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, differs
from parity.catalogue.sides import together

LR, STEPS = 0.5, 30
COUNTS = np.arange(STEPS, dtype=float)


@entry(
    42,
    "Schedules",
    Status.CURED,
    torch="cosine annealing rises again behind T_max; OneCycle is at max_lr in step pct_start * total - 1",
    jax="step, multi-step, exponential, linear, polynomial and warm restarts are torch's; the cosine stays at its "
    "end, and one-cycle's phases end elsewhere",
    instead="""
    jaxdl.optim.schedules.cosine_annealing_lr(lr, t_max)
    jaxdl.optim.schedules.one_cycle_lr(max_lr, total_steps)
    # with optax's: schedule(count * 1.0), see row 54
    """,
)
def shapes_of_schedules() -> Facts:
    restarts = optax.join_schedules([optax.cosine_decay_schedule(LR, n) for n in (5, 10, 20)], [5, 15])
    cases: list[tuple[str, Any, dict[str, Any], Any]] = [
        (
            "StepLR",
            lr_scheduler.StepLR,
            {"step_size": 4, "gamma": 0.5},
            optax.exponential_decay(LR, 4, 0.5, staircase=True),
        ),
        (
            "MultiStepLR",
            lr_scheduler.MultiStepLR,
            {"milestones": [3, 9], "gamma": 0.5},
            optax.piecewise_constant_schedule(LR, {3: 0.5, 9: 0.5}),
        ),
        ("ExponentialLR", lr_scheduler.ExponentialLR, {"gamma": 0.9}, optax.exponential_decay(LR, 1, 0.9)),
        (
            "LinearLR",
            lr_scheduler.LinearLR,
            {"start_factor": 0.25, "total_iters": 8},
            optax.linear_schedule(LR / 4, LR, 8),
        ),
        (
            "PolynomialLR",
            lr_scheduler.PolynomialLR,
            {"total_iters": 8, "power": 2.0},
            optax.polynomial_schedule(LR, 0, 2, 8),
        ),
        ("WarmRestarts", lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 5, "T_mult": 2}, restarts),
    ]
    cosines = optax.cosine_decay_schedule(LR, 10), schedules.cosine_annealing_lr(LR, 10)
    cycles = optax.cosine_onecycle_schedule(STEPS, LR), schedules.one_cycle_lr(LR, STEPS)
    evaluated = together(
        lambda counts: [jax.vmap(each)(counts) for each in (*(case[-1] for case in cases), *cosines, *cycles)],
        COUNTS,
    )
    for (name, make, options, _), port in zip(cases, evaluated, strict=False):
        yield agrees(name, _rates(make, **options), port)
    port, cured, *one_cycle = evaluated[len(cases) :]
    theirs = _rates(lr_scheduler.CosineAnnealingLR, T_max=10)
    yield agrees("CosineAnnealingLR up to T_max", theirs[:11], port[:11])
    yield differs("CosineAnnealingLR behind T_max", theirs, port, cured, least=0.1)
    theirs = _rates(lr_scheduler.OneCycleLR, max_lr=LR, total_steps=STEPS, cycle_momentum=False)
    yield differs("OneCycleLR", theirs, *one_cycle, least=1e-3)


@entry(
    54,
    "optax schedules in float64",
    Status.OPTIONS,
    torch="float64",
    jax="an int32 count divided by an int is a float32: exponential, linear, polynomial and warm-up rates are "
    "5e-8 off; piecewise constant and cosine are not",
    instead="lambda count: schedule(count * 1.0)  # jaxdl.optim.schedules are exact as they are",
)
def schedules_in_float64() -> Facts:
    narrow: dict[str, tuple[Callable[..., Any], float]] = {
        "exponential": (optax.exponential_decay(LR, 10, 0.9), LR * 0.9 ** (7 / 10)),
        "linear": (optax.linear_schedule(LR, 0.1, 11), LR + (0.1 - LR) * 7 / 11),
        "polynomial": (optax.polynomial_schedule(LR, 0.1, 2, 11), 0.1 + (LR - 0.1) * (1 - 7 / 11) ** 2),
        "warm-up": (optax.warmup_cosine_decay_schedule(0.1, LR, 11, 30), 0.1 + (LR - 0.1) * 7 / 11),
    }
    constant, cosine = optax.piecewise_constant_schedule(LR, {5: 0.3}), optax.cosine_decay_schedule(LR, 11)

    def ports(count: Any) -> Any:
        pairs = [(schedule(count), schedule(count * 1.0)) for schedule, _ in narrow.values()]
        return pairs, constant(count), cosine(count)

    made, stepped, cosine_rate = together(ports, np.int32(7))
    for (name, (_, exact)), rates in zip(narrow.items(), made, strict=True):
        yield differs(name, exact, *rates, least=1e-10)
    yield agrees("piecewise constant", LR * 0.3, stepped)
    yield agrees("cosine", LR * (1 + np.cos(np.pi * 7 / 11)) / 2, cosine_rate)


def _rates(make: Callable[..., Any], **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, rates = make(optimizer, **options), []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < STEPS - 1:
            scheduler.step()
    return rates
