"""Optimizers: twenty updates in float64 from the same gradients. Compared is how far the parameters moved."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxdl.optim import optimizers, schedules
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, gives, lacks
from parity.catalogue.sides import normal, together, trajectory

LR = 0.01
PARAMS = normal(6) / 10
# Large and tiny, so that eps shows.
GRADIENTS = normal(20, 6, seed=1) * np.array([10, 1, 1, 0.1, 1e-3, 1e-6])


@entry(
    35,
    "Optimizers that agree",
    Status.OPTIONS,
    torch="SGD (momentum, Nesterov, weight decay), Adam, AdamW, RMSprop (centred as well), Adadelta, Adamax",
    jax="optax's of the same name, with the arguments that `instead` shows: equal to rounding",
    instead="""
    optax.sgd(lr, momentum=0.9, nesterov=True)
    optax.chain(optax.add_decayed_weights(decay), optax.sgd(lr, momentum=0.9))  # torch's weight_decay
    optax.adam(lr); optax.adamw(lr, weight_decay=1e-2); optax.adadelta(lr); optax.adamax(lr)
    optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False)
    # or jaxdl.optim.optimizers, with torch's arguments and defaults
    """,
)
def agreeing() -> Facts:
    rms = {"decay": 0.99, "eps_in_sqrt": False}
    coupled = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(LR, momentum=0.9))
    cases: list[tuple[str, Any, dict[str, Any], Any]] = [
        ("SGD", torch.optim.SGD, {}, optax.sgd(LR)),
        ("SGD, momentum", torch.optim.SGD, {"momentum": 0.9}, optax.sgd(LR, momentum=0.9)),
        ("SGD, Nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, optax.sgd(LR, 0.9, nesterov=True)),
        ("SGD, weight decay", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}, coupled),
        ("Adam", torch.optim.Adam, {}, optax.adam(LR)),
        ("AdamW", torch.optim.AdamW, {}, optax.adamw(LR, weight_decay=1e-2)),
        ("RMSprop", torch.optim.RMSprop, {}, optax.rmsprop(LR, **rms)),
        ("RMSprop, centred", torch.optim.RMSprop, {"centered": True}, optax.rmsprop(LR, centered=True, **rms)),
        ("Adadelta", torch.optim.Adadelta, {}, optax.adadelta(LR)),
        ("Adamax", torch.optim.Adamax, {}, optax.adamax(LR)),
    ]
    for (name, theirs, options, _), port in zip(cases, moved(*(tx for *_, tx in cases)), strict=True):
        yield agrees(name, moved_by_torch(theirs, **options), port, most=1e-13)


@entry(
    36,
    "RMSprop: defaults",
    Status.OPTIONS,
    torch="alpha 0.99, eps outside the square root",
    jax="decay 0.9, eps inside the square root",
    instead="optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False)  # or jaxdl.optim.optimizers.rmsprop(lr)",
)
def rmsprop_defaults() -> Facts:
    default, decay, eps, cured, ours = moved(
        optax.rmsprop(LR),
        optax.rmsprop(LR, eps_in_sqrt=False),
        optax.rmsprop(LR, decay=0.99),
        optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False),
        optimizers.rmsprop(LR),
    )
    theirs = moved_by_torch(torch.optim.RMSprop)
    yield differs("as they come", theirs, default, cured, least=0.1, most=1e-13)
    yield differs("eps only", theirs, eps, cured, least=1e-2, most=1e-13)
    yield differs("decay only", theirs, decay, cured, least=0.1, most=1e-13)
    yield agrees("jaxdl's, as it comes", theirs, ours, most=1e-13)


@entry(
    37,
    "RMSprop with momentum, under a schedule",
    Status.CURED,
    torch="the rate behind the momentum buffer",
    jax="the rate in front of it: what the buffer holds keeps its old rate when the schedule changes",
    instead="jaxdl.optim.optimizers.rmsprop(schedule, momentum=0.9)",
)
def rmsprop_schedule() -> Facts:
    rate: Any = schedules.step_lr(LR, 5, 0.1)
    theirs = moved_by_torch(torch.optim.RMSprop, step_lr=(5, 0.1), momentum=0.9)
    port, cured, sgd = moved(
        optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False, momentum=0.9),
        optimizers.rmsprop(rate, momentum=0.9),
        optax.sgd(rate, momentum=0.9),
    )
    yield agrees("while the rate stands", theirs[:5], port[:5], most=1e-13)
    yield differs("over 20 updates", theirs, port, cured, least=0.1, most=1e-13)
    theirs = moved_by_torch(torch.optim.SGD, step_lr=(5, 0.1), momentum=0.9)
    yield agrees("SGD with momentum", theirs, sgd, most=1e-13)


@entry(
    38,
    "AMSGrad",
    Status.CURED,
    torch="the largest raw average of the squares, bias-corrected after the maximum",
    jax="optax.amsgrad corrects before the maximum or not at all; no pair of its flags is torch's",
    instead="jaxdl.optim.optimizers.adam(lr, amsgrad=True)",
)
def amsgrad() -> Facts:
    theirs = moved_by_torch(torch.optim.Adam, amsgrad=True)
    flags = [
        {"bias_correction_mu": mean, "bias_correction_nu": square}
        for mean, square in itertools.product((True, False), repeat=2)
    ]
    cured, *ports = moved(optimizers.adam(LR, amsgrad=True), *(optax.amsgrad(LR, **given) for given in flags))
    for given, port in zip(flags, ports, strict=True):
        name = ", ".join(f"{flag}={value}" for flag, value in given.items())
        yield differs(name, theirs, port, cured, least=1e-4, most=1e-13)
    yield lacks(optax.adam, "ams", "max")


def nadam(
    lr: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum_decay: float = 4e-3
) -> optax.GradientTransformation:
    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return 0.0, 1.0, zeros, zeros

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        step, product, mean, square = state[0] + 1, *state[1:]
        now, then = (b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
        product = product * now
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mean, updates)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, square, updates)

        def one(g: Any, m: Any, v: Any) -> Any:
            ahead = (1 - now) / (1 - product) * g + then / (1 - product * then) * m
            return -lr * ahead / (jnp.sqrt(v / (1 - b2**step)) + eps)

        return jax.tree.map(one, updates, mean, square), (step, product, mean, square)

    return optax.GradientTransformation(init, update)


def rprop(
    lr: float, down: float = 0.5, up: float = 1.2, smallest: float = 1e-6, largest: float = 50.0
) -> optax.GradientTransformation:
    def init(params: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda p: jnp.full_like(p, lr), params)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        before, sizes = state
        turns = jax.tree.map(lambda g, b: jnp.sign(g * b), updates, before)
        factors = jax.tree.map(lambda t: jnp.where(t > 0, up, jnp.where(t < 0, down, 1.0)), turns)
        sizes = jax.tree.map(lambda s, f: jnp.clip(s * f, smallest, largest), sizes, factors)
        kept = jax.tree.map(lambda g, t: jnp.where(t < 0, 0.0, g), updates, turns)
        return jax.tree.map(lambda g, s: -s * jnp.sign(g), kept, sizes), (kept, sizes)

    return optax.GradientTransformation(init, update)


@entry(
    39,
    "NAdam, Rprop, RAdam and Adagrad",
    Status.NO_OPTION,
    torch="NAdam's momentum grows (momentum_decay 4e-3); Rprop moves with this gradient; RAdam adds eps before "
    "the bias correction; Adagrad starts from 0, eps outside the square root",
    jax="nadam's momentum is constant; rprop gives the move of the step before; radam adds eps after the "
    "correction (no option); adagrad starts from 0.1, eps inside the square root",
    instead="jaxdl.optim.optimizers.adagrad(lr)\n\n" + inspect.getsource(nadam) + "\n" + inspect.getsource(rprop),
)
def others() -> Facts:
    port, cured, port_rprop, cured_rprop, port_radam, plain_radam, *adagrads = moved(
        optax.nadam(LR),
        nadam(LR),
        optax.rprop(LR),
        rprop(LR),
        optax.radam(LR),
        optax.radam(LR, eps=0.0),
        optax.adagrad(LR),
        optax.adagrad(LR, initial_accumulator_value=0.0, eps=1e-10),
        optimizers.adagrad(LR),
    )
    # torch keeps the product of the momenta in float32.
    yield differs("NAdam", moved_by_torch(torch.optim.NAdam), port, cured, least=1e-4, most=1e-8)
    yield lacks(optax.adam, "momentum_decay", "psi")
    yield differs("Rprop", moved_by_torch(torch.optim.Rprop), port_rprop, cured_rprop, least=1e-3, most=1e-13)
    yield gives("optax.rprop: the largest first move", np.abs(port_rprop[0]).max(), 0)
    yield differs("RAdam", moved_by_torch(torch.optim.RAdam), port_radam, least=1e-10)
    yield agrees("RAdam, eps=0", moved_by_torch(torch.optim.RAdam, eps=0.0), plain_radam, most=1e-13)
    theirs, (port, near, cured) = moved_by_torch(torch.optim.Adagrad), adagrads
    yield differs("Adagrad", theirs, port, cured, least=1e-3, most=1e-13)
    yield differs("Adagrad from 0 with torch's eps", theirs, near, cured, least=1e-3, most=1e-13)
    yield lacks(optax.adagrad, "sqrt")


@entry(
    40,
    "Weight decay and dampening",
    Status.CURED,
    torch="AdamW's default is 1e-2; Adam(weight_decay) adds to the gradient (L2); SGD has dampening",
    jax="adamw's default is 1e-4; adam has no decay, and adamw's is not L2; sgd has no dampening",
    instead="""
    optax.adamw(lr, weight_decay=1e-2)
    optax.chain(optax.add_decayed_weights(decay), optax.adam(lr))  # torch's Adam(weight_decay=decay)
    jaxdl.optim.optimizers.sgd(lr, momentum=0.9, dampening=0.5)    # adam and adamw there have torch's decay, too
    """,
)
def weight_decay() -> Facts:
    default, ours, decoupled, coupled, ours_coupled, momentum, dampened = moved(
        optax.adamw(LR),
        optimizers.adamw(LR),
        optax.adamw(LR, weight_decay=0.1),
        optax.chain(optax.add_decayed_weights(0.1), optax.adam(LR)),
        optimizers.adam(LR, weight_decay=0.1),
        optax.sgd(LR, momentum=0.9),
        optimizers.sgd(LR, momentum=0.9, dampening=0.5),
    )
    yield differs("AdamW as it comes", moved_by_torch(torch.optim.AdamW), default, ours, least=1e-5, most=1e-13)
    theirs = moved_by_torch(torch.optim.Adam, weight_decay=0.1)
    yield differs("Adam(weight_decay=0.1)", theirs, decoupled, coupled, least=1e-3, most=1e-13)
    yield agrees("the same with jaxdl", theirs, ours_coupled, most=1e-13)
    theirs = moved_by_torch(torch.optim.SGD, momentum=0.9, dampening=0.5)
    yield differs("SGD(dampening=0.5)", theirs, momentum, dampened, least=0.1, most=1e-13)
    yield lacks(optax.sgd, "damp")


def moved_by_torch(
    make: Callable[..., torch.optim.Optimizer], *, step_lr: tuple[int, float] = (1000, 1.0), **options: Any
) -> np.ndarray:
    """How far the parameters are from their start after each update, (20, 6); LR falls as in StepLR."""
    weight = torch.nn.Parameter(torch.tensor(PARAMS))
    optimizer, history = make([weight], lr=LR, **options), []
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, *step_lr)
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        scheduler.step()
        history.append(array(weight) - PARAMS)
    return np.stack(history)


def moved(*transformations: optax.GradientTransformation) -> list[np.ndarray]:
    """How far the parameters are from their start after each update, (20, 6), for each optimizer."""
    made = together(
        lambda start, gradients: [trajectory(tx, start, gradients) for tx in transformations], PARAMS, GRADIENTS
    )
    return [np.asarray(history) - PARAMS for history in made]
