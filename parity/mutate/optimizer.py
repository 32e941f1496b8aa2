"""The optimizer, its schedule, and what is done to gradients before it."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdl.optim import optimizers
from parity.mutate.faults import Fault, Planted, Right, registry

FAULTS: list[Fault] = []
fault = registry(FAULTS)
# What jaxdl takes of the settings of a torch optimizer.
SETTINGS = {
    "SGD": ("momentum", "dampening", "nesterov", "weight_decay"),
    "Adam": ("betas", "eps", "weight_decay", "amsgrad"),
    "AdamW": ("betas", "eps", "weight_decay", "amsgrad"),
    "RMSprop": ("alpha", "eps", "weight_decay", "momentum", "centered"),
}


@fault("learning rate", "the learning rate is ten times too large")
def _rate(given: Right) -> Iterator[Planted]:
    return _followed(given, lambda updates: jax.tree.map(lambda u: 10 * u, updates))


@fault("sign of the update", "the update goes uphill")
def _sign(given: Right) -> Iterator[Planted]:
    return _followed(given, lambda updates: jax.tree.map(jnp.negative, updates))


@fault("no update", "the optimizer does nothing")
def _no_update(given: Right) -> Iterator[Planted]:
    return _followed(given, lambda updates: jax.tree.map(jnp.zeros_like, updates))


@fault("frozen layer", "one parameter is never updated")
def _frozen(given: Right) -> Iterator[Planted]:
    def change(updates: Any) -> Any:
        leaves, tree = jax.tree.flatten(updates)
        return jax.tree.unflatten(tree, [*leaves[:-1], jnp.zeros_like(leaves[-1])])

    return _followed(given, change)


@fault("no momentum", "momentum is left out")
def _no_momentum(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("momentum"):
        plain = {"nesterov": False} if "nesterov" in given.optimizer else {}
        yield from _setting(given, momentum=0.0, **plain)


@fault("Nesterov", "momentum is Nesterov's on one side")
def _nesterov(given: Right) -> Iterator[Planted]:
    own = given.optimizer
    if own.get("momentum") and "nesterov" in own and not own.get("dampening"):
        yield from _setting(given, nesterov=not own["nesterov"])


@fault("dampening", "momentum is dampened, as an average is")
def _dampening(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("momentum") and not given.optimizer.get("nesterov"):
        yield from _setting(given, dampening=given.optimizer["momentum"])


@fault("weight decay default", "weight decay is another library's default")
def _decay_default(given: Right) -> Iterator[Planted]:
    if "weight_decay" in given.optimizer:
        yield from _setting(given, weight_decay=1e-4 if given.optimizer["weight_decay"] != 1e-4 else 1e-2)


@fault(
    "decay kind",
    "weight decay is added to the gradient where torch takes it off the weight, or the other way round",
)
def _decay_kind(given: Right) -> Iterator[Planted]:
    other = {"Adam": "AdamW", "AdamW": "Adam"}.get(given.optimizer.get("class", ""))
    if other and given.optimizer["weight_decay"]:
        yield from _setting(given, **{"class": other})


@fault("decay mask", "biases and norms are not decayed")
def _decay_mask(given: Right) -> Iterator[Planted]:
    own, decay = given.optimizer, given.optimizer.get("weight_decay")
    if decay and own["class"] == "AdamW":
        b1, b2 = own["betas"]
        rate = _schedule(given)
        yield from _with_tx(given, optax.adamw(rate, b1, b2, eps=own["eps"], weight_decay=decay, mask=_matrices))
    elif decay:
        base = _rebuilt(given, weight_decay=0.0)
        if base is not None:
            decayed = optax.masked(optax.add_decayed_weights(decay), _matrices)
            yield from _with_tx(given, optax.chain(decayed, base))


@fault("optimizer eps", "the eps of the optimizer is another")
def _eps(given: Right) -> Iterator[Planted]:
    if "eps" in given.optimizer:
        yield from _setting(given, eps=given.optimizer["eps"] * 100)


@fault("betas", "the second beta is another")
def _betas(given: Right) -> Iterator[Planted]:
    if "betas" in given.optimizer:
        first, second = given.optimizer["betas"]
        yield from _setting(given, betas=(first, 0.99 if second != 0.99 else 0.999))


@fault("RMSprop decay", "the decay of RMSprop is another library's default, 0.9")
def _alpha(given: Right) -> Iterator[Planted]:
    if "alpha" in given.optimizer:
        yield from _setting(given, alpha=0.9)


@fault("no bias correction", "Adam's averages are not corrected for their start at zero")
def _uncorrected(given: Right) -> Iterator[Planted]:
    own = given.optimizer
    decoupled = own.get("class") == "AdamW"
    if not given.pair.clip and (decoupled or (own.get("class") == "Adam" and not own["weight_decay"])):
        (b1, b2), eps, decay = own["betas"], own["eps"], own["weight_decay"]
        table = _table(given.rates)

        def init(params: Any) -> Any:
            return jnp.zeros((), int), *(jax.tree.map(jnp.zeros_like, params),) * 2

        def update(updates: Any, state: Any, params: Any = None) -> Any:
            step, mu, nu = state
            mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, mu, updates)
            nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, nu, updates)

            def change(m: Any, v: Any, p: Any) -> Any:
                return -table(step) * (m / (jnp.sqrt(v) + eps) + decay * p)

            return jax.tree.map(change, mu, nu, params), (step + 1, mu, nu)

        yield from _with_tx(given, optax.GradientTransformation(init, update))


@fault("no clipping", "gradients are not clipped")
def _unclipped(given: Right) -> Iterator[Planted]:
    if given.pair.clip:
        tx = _rebuilt(dataclasses.replace(given, pair=dataclasses.replace(given.pair, clip=None)))
        if tx is not None:
            yield from _with_tx(given, tx)


@fault("clipping", "gradients are clipped on one side")
def _clipped(given: Right) -> Iterator[Planted]:
    if not given.pair.clip:
        yield from _led(given, optax.clip_by_global_norm(0.05))


@fault("accumulated gradients", "gradients add up from step to step: nobody calls zero_grad")
def _accumulated(given: Right) -> Iterator[Planted]:
    # torch clips its gradients in place, so what adds up there is clipped already: another fault than this one.
    if given.pair.zero_grad and not given.pair.clip:
        yield from _led(given, optax.trace(decay=1.0))


@fault("gradient scale", "gradients are averaged where torch adds them, or the other way round")
def _gradient_scale(given: Right) -> Iterator[Planted]:
    if given.optimizer.get("class") == "SGD":
        yield from _led(given, optax.scale(0.5))


@fault("schedule off by one", "the schedule is one step ahead")
def _ahead(given: Right) -> Iterator[Planted]:
    if len(set(given.rates)) > 1:
        yield from _setting(given, rate=_table(given.rates[1:]))


@fault("schedule not applied", "the rate stays at its first value")
def _constant(given: Right) -> Iterator[Planted]:
    if len(set(given.rates)) > 1:
        yield from _setting(given, rate=_table(given.rates[:1]))


def _with_tx(given: Right, tx: Any) -> Iterator[Planted]:
    yield Planted(dataclasses.replace(given.pair, tx=tx), frozenset({"optimizer", "schedule"}))


def _followed(given: Right, change: Callable[[Any], Any]) -> Iterator[Planted]:
    """The pair with ``change(updates)`` behind its transformation."""
    if given.pair.tx is not None:
        yield from _with_tx(given, optax.chain(given.pair.tx, optax.stateless(lambda updates, _: change(updates))))


def _led(given: Right, first: Any) -> Iterator[Planted]:
    """The pair with another transformation in front of its own."""
    if given.pair.tx is not None:
        yield from _with_tx(given, optax.chain(first, given.pair.tx))


def _setting(given: Right, **changes: Any) -> Iterator[Planted]:
    """The pair with torch's optimizer in jaxdl, with other settings; "class" and "rate" are among them."""
    if all(name in given.optimizer or name in ("class", "rate") for name in changes):
        tx = _rebuilt(given, **changes)
        if tx is not None:
            yield from _with_tx(given, tx)


def _rebuilt(given: Right, **changes: Any) -> Any:
    """torch's optimizer in jaxdl, with other settings; None where it is one that jaxdl has not."""
    own = {**given.optimizer, **changes}
    kind, pair = own.get("class"), given.pair
    if kind not in SETTINGS or own["groups"] != 1 or pair.clip or pair.accumulate > 1 or not pair.zero_grad:
        return None
    rate = own.get("rate") or _schedule(given)
    return getattr(optimizers, kind.lower())(rate, **{name: own[name] for name in SETTINGS[kind]})


def _schedule(given: Right) -> Any:
    return _table(given.rates) if len(set(given.rates)) > 1 else given.rates[0]


def _table(rates: Sequence[float]) -> Callable[[Any], Any]:
    values = np.asarray(rates)
    return lambda step: jnp.asarray(values)[jnp.minimum(step, len(values) - 1)]


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
