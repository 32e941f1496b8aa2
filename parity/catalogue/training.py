"""What stands around an optimizer: clipping, accumulation, its state."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxdl.optim import optimizers
from jaxdl.optim.transforms import accumulate, clip_by_norm
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs
from parity.catalogue.sides import normal, together, trajectory

LR = 0.5


@entry(
    41,
    "Clipping by the norm",
    Status.CURED,
    torch="divides by norm + 1e-6",
    jax="divides by the norm: the same but for tiny gradients",
    instead="optax.chain(jaxdl.optim.transforms.clip_by_norm(max_norm), tx)",
)
def clipping() -> Facts:
    for norm, most, least in ((7e-9, 1e-8, 0.5), (5.0, 1.0, 1e-8)):
        gradient = norm * normal(4) / np.linalg.norm(normal(4))
        weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        weight.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([weight], most)
        clips = optax.clip_by_global_norm(most), clip_by_norm(most)
        made = together(lambda g, clips=clips: [tx.update(g, tx.init(g))[0] for tx in clips], gradient)
        kept = [float(np.linalg.norm(array(value))) / norm for value in (weight.grad, *made)]
        yield differs(f"what is left of the norm {norm:g}, clipped at {most:g}, divided by it", *kept, least=least)


@entry(
    43,
    "Gradient accumulation, and a missing zero_grad",
    Status.OPTIONS,
    torch="calling backward again adds up; a loop that never calls zero_grad adds up from step to step",
    jax="optax.MultiSteps averages, in float32, unless told otherwise; a gradient is that of the batch",
    instead="""
    optax.MultiSteps(tx, n, use_grad_mean=False, accumulator_dtype=jnp.float64)  # or
    jaxdl.optim.transforms.accumulate(tx, n, "sum")    # "mean" where torch's loop divides the loss by n
    optax.chain(optax.trace(decay=1.0), optax.sgd(lr)) # a torch loop without zero_grad
    """,
)
def accumulation() -> Facts:
    gradients, wide, sgd = normal(8, 3), {"accumulator_dtype": jnp.float64}, optax.sgd(LR)
    every: list[Any] = [
        optax.MultiSteps(sgd, 4, **wide),
        optax.MultiSteps(sgd, 4, use_grad_mean=False, **wide),
        optax.MultiSteps(sgd, 4, use_grad_mean=False),
        accumulate(sgd, 4, "sum"),
        accumulate(sgd, 4, "mean"),
        sgd,
        optax.chain(optax.trace(decay=1.0), sgd),
    ]
    averaged, added, narrow, ours, ours_mean, plain, traced = together(
        lambda g: [trajectory(tx, jnp.zeros(3), g) for tx in every], gradients
    )
    theirs = _accumulated(gradients, every=4)
    yield differs("4 times backward, then a step", theirs, averaged, ours, least=0.1)
    yield agrees("the same with use_grad_mean=False", theirs, added)
    yield differs("its accumulator as it comes", theirs, narrow, added, least=1e-9)
    divided = _accumulated(gradients / 4, every=4)
    yield agrees("the loss divided by 4", divided, averaged)
    yield agrees("the same with jaxdl's mean", divided, ours_mean)
    theirs = _accumulated(gradients, every=1, zero_grad=False)
    yield differs("a loop without zero_grad", theirs, plain, traced, least=0.1)


@entry(
    63,
    "Adam hides a difference in clipping",
    Status.SAME,
    torch="divides by norm + 1e-6",
    jax="divides by the norm; Adam's updates do not show it, its moments do",
    instead="compare the optimizer's state as well as the parameters: parity.prove does, phase optimizer_state",
)
def hidden_clipping() -> Facts:
    gradient = normal(6)
    weight = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    weight.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_([weight], 0.1)
    optimizer.step()
    moment = array(optimizer.state[weight]["exp_avg"])

    def port(gradient: Any) -> Any:
        chains = (
            optax.chain(clip, optax.adam(1.0)) for clip in (optax.clip_by_global_norm(0.1), clip_by_norm(0.1))
        )
        made = (tx.update(gradient, tx.init(jnp.zeros(6))) for tx in chains)
        return [(update, optax.tree.get(state, "mu")) for update, state in made]

    (update, mean), (exact, mean_exact) = together(port, gradient)
    yield agrees("the first update, in units of the rate", weight, update, most=1e-6)
    yield agrees("the same with jaxdl's clip", weight, exact)
    scale = np.abs(moment).max()
    yield differs(
        "the first moment, in units of its largest", moment / scale, mean / scale, mean_exact / scale, least=1e-7
    )


@entry(
    64,
    "RMSprop with momentum: its state",
    Status.CURED,
    torch="momentum_buffer holds scaled gradients",
    jax="optax.rmsprop's trace holds them times -rate",
    instead="jaxdl.optim.optimizers.rmsprop(lr, momentum=0.9), or judge the trace up to a factor, as parity does",
)
def scaled_trace() -> Facts:
    gradient = normal(6)
    weight = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], lr=LR, momentum=0.9)
    weight.grad = torch.tensor(gradient)
    optimizer.step()
    buffer = array(optimizer.state[weight]["momentum_buffer"])

    def ports(gradient: Any) -> Any:
        both = optax.rmsprop(LR, 0.99, eps_in_sqrt=False, momentum=0.9), optimizers.rmsprop(LR, momentum=0.9)
        states = (tx.update(gradient, tx.init(jnp.zeros(6)), jnp.zeros(6))[1] for tx in both)
        return [optax.tree.get(state, "trace") for state in states]

    made = together(ports, gradient)
    yield differs("the buffer after an update", buffer, *made, least=1)
    yield agrees("optax's, divided by -rate", buffer, made[0] / -LR)


def _accumulated(gradients: np.ndarray, *, every: int, zero_grad: bool = True) -> np.ndarray:
    """Where plain SGD of torch is after each gradient."""
    weight, history = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)), []
    optimizer = torch.optim.SGD([weight], lr=LR)
    for step, gradient in enumerate(gradients):
        if zero_grad and step % every == 0:
            optimizer.zero_grad()
        (weight * torch.tensor(gradient)).sum().backward()
        if (step + 1) % every == 0:
            optimizer.step()
        history.append(array(weight).copy())
    return np.stack(history)
