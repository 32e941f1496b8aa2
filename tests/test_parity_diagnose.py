"""Explanations: each is told from the others by the values alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxdl.nn.norm import BatchNorm
from parity import Pair
from parity.diagnose import EXPLAINED, diagnose, explain_weight
from parity.diagnose.functions import CHANGES, Swap, option, swaps
from parity.diagnose.weights import images
from parity.locate import locate
from parity.prove import proof

RNG = np.random.default_rng(0)
THEIRS = {
    "fc1.weight": RNG.normal(size=(5, 5)),
    "fc2.weight": RNG.normal(size=(4, 12)),
    "fc3.weight": RNG.normal(size=(5, 5)),
    "conv.weight": RNG.normal(size=(3, 2, 3, 3)),
    "lstm.weight_ih": RNG.normal(size=(8, 3)),
    "norm.weight": RNG.random(6),
    "norm.bias": RNG.random(6),
    "norm.running_mean": RNG.random(7),
    "norm.running_var": RNG.random(7),
}


def channels_last(weight):
    """The columns of a matrix behind an image (3, 2, 2) in the order (H, W, C)."""
    return weight.reshape(4, 3, 2, 2).transpose(0, 2, 3, 1).reshape(weight.shape)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("fc1.weight", np.transpose, "transposed weight"),
        ("fc2.weight", channels_last, "flatten order"),
        ("fc1.weight", lambda _: THEIRS["fc3.weight"], "weights of another layer"),
        ("fc1.weight", lambda x: x.astype(np.float16).astype(np.float64), "half precision weights"),
        ("conv.weight", lambda x: x[:, :, ::-1, ::-1], "mirrored kernel"),
        ("conv.weight", lambda x: x.swapaxes(2, 3), "kernel height and width"),
        ("lstm.weight_ih", lambda x: x[[0, 1, 4, 5, 2, 3, 6, 7]], "gate order"),
        ("norm.bias", np.zeros_like, "missing bias"),
        ("norm.weight", lambda _: THEIRS["norm.bias"], "norm weight and bias"),
        ("norm.running_var", np.ones_like, "running statistics not loaded"),
        ("norm.running_var", lambda _: THEIRS["norm.running_mean"], "running mean and variance"),
    ],
)
def test_a_weight_is_explained(name, change, expected):
    found = list(explain_weight(name, change(THEIRS[name]), THEIRS))
    assert {explanation.name for explanation, left in found if left < EXPLAINED} == {expected}
    assert all(name in explanation.fix for explanation, _ in found if "parts" not in explanation.fix)


def test_a_weight_of_nowhere_is_not_explained():
    assert min(left for _, left in explain_weight("fc1.weight", RNG.normal(size=(5, 5)), THEIRS)) > 0.1


def test_images_have_channels_and_the_size():
    found = list(images(72))
    assert found[:2] == [(18, 2, 2), (8, 3, 3)]
    assert all(channels * height * width == 72 and channels > 1 for channels, height, width in found)


def test_a_swap_takes_the_call_it_is_told_to():
    x = torch.tensor([-1.0, 2.0])
    with Swap(["gelu"], option(approximate="tanh"), which=1) as swap:
        first, second = torch.nn.functional.gelu(x), torch.nn.functional.gelu(x)
    assert swap.count == 2
    assert torch.equal(first, torch.nn.functional.gelu(x))
    assert torch.equal(second, torch.nn.functional.gelu(x, approximate="tanh"))


def test_an_inactive_swap_takes_none():
    with Swap(["relu"], lambda *_: 0) as swap:
        swap.active = False
        assert torch.relu(torch.ones(1)).item() == 1
    assert swap.count == 0


def test_every_change_is_tried_on_each_of_three_calls_and_on_all():
    found = list(swaps("fc2"))
    assert [swap.which for _, swap in found] == [0, 1, 2, None] * len(CHANGES)
    assert all("in front of fc2" in explanation.fix for explanation, _ in found)


class Normed(nnx.Module):
    """Linear and BatchNorm; what comes out may be spoiled."""

    def __init__(self, momentum=0.1, after=lambda x: x):
        self.fc = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.norm = BatchNorm(3, momentum=momentum)
        self.after = after

    def __call__(self, x):
        return self.after(self.norm(self.fc(x)))


class TorchNormed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.fc(x))


def diagnosed(**settings):
    pair = Pair(torch=TorchNormed, flax=lambda: Normed(**settings), inputs=lambda rng: rng.normal(size=(6, 4)))
    made = proof(pair, steps=1)
    location = locate(made.subject, made.judgement, made.reference.facts)
    return diagnose(made.subject, made.reference, made.port, location)


def test_the_conventions_of_momentum_are_both_told():
    found = diagnosed(momentum=0.9)
    assert [one.fault.place for one in found] == ["norm.running_mean", "norm.running_var"]
    assert {one.explanation.name for one in found} == {"BatchNorm momentum"}
    assert found[0].explanation.fix == (
        "norm: torch's momentum is 0.1 (flax's 0.9); the port moves as with torch's 0.9 (flax's 0.1)"
    )
    assert all(one.after < EXPLAINED < one.before for one in found)


def test_what_nothing_explains_is_said_to_be_so():
    (found,) = diagnosed(after=lambda x: x + 0.1 * x**3)
    assert (found.fault.kind, found.explanation, found.others) == ("glue", None, ())
    assert found.tried > 0


def trained(torch_optimizer, tx, after=lambda x: x, factor=1.0, **more):
    """What is said of a port that is trained, and goes wrong in several places at once."""
    pair = Pair(
        torch=TorchNormed,
        flax=lambda: Normed(after=after),
        inputs=lambda rng: rng.normal(0.3, 1, size=(6, 4)),
        targets=lambda rng: rng.normal(size=(6, 3)),
        loss=(torch.nn.functional.mse_loss, lambda made, y: factor * ((made - y) ** 2).mean()),
        torch_optimizer=torch_optimizer,
        tx=tx,
        **more,
    )
    made = proof(pair, steps=3)
    location = locate(made.subject, made.judgement, made.reference.facts)
    found = diagnose(made.subject, made.reference, made.port, location)
    return [(one.fault.kind, one.explanation and one.explanation.name) for one in found]


def test_faults_of_model_loss_and_optimizer_are_all_named_at_once():
    def nesterov(module):
        return torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, nesterov=True)

    assert trained(nesterov, optax.sgd(0.1, momentum=0.9), after=jnp.tanh, factor=2.0) == [
        ("glue", "other activation"),
        ("loss", "loss scaled"),
        ("optimizer", "Nesterov"),
    ]


def warmed(late):
    """A rate that grows to 0.1 in four updates."""
    return lambda step: 0.1 * jnp.clip((step + 1 - late) / 4, 0, 1)


def test_a_schedule_is_named_behind_a_fault_of_the_model():
    found = trained(
        lambda module: torch.optim.SGD(module.parameters(), 0.1),
        optax.sgd(warmed(late=-1)),
        after=jnp.tanh,
        torch_scheduler=lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda step: min(1, (step + 1) / 4)),
    )
    assert found == [("glue", "other activation"), ("optimizer", "schedule off by one")]


def test_a_setting_and_a_schedule_are_told_apart():
    found = trained(
        lambda module: torch.optim.AdamW(module.parameters(), 0.1, weight_decay=0.1),
        optax.adamw(warmed(late=-1)),
        torch_scheduler=lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda step: min(1, (step + 1) / 4)),
    )
    assert sorted(found) == [("optimizer", "weight decay default"), ("schedule", "schedule off by one")]


def scaled_by_tensor(limit):
    """Clips each tensor by its own norm."""

    def update(grads, state, params=None):
        del params
        return jax.tree.map(lambda x: x * jnp.minimum(1, limit / (jnp.linalg.norm(x) + 1e-6)), grads), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def undecayed_norms(params):
    return {name: jax.tree.map(lambda _, name=name: name != "norm", part) for name, part in params.items()}


@pytest.mark.parametrize(
    ("torch_optimizer", "tx", "name"),
    [
        (torch.optim.Adam, optax.adam(0.1, eps=0.0, eps_root=1e-3), "eps in the root"),
        (torch.optim.RMSprop, optax.rmsprop(0.1, 0.99, eps=1e-3), "eps in the root"),
        (torch.optim.SGD, optax.chain(scaled_by_tensor(0.01), optax.sgd(0.1)), "clipping"),
        (torch.optim.AdamW, optax.adamw(0.1, weight_decay=1e-2, mask=undecayed_norms), "decay mask"),
    ],
    ids=["adam", "rmsprop", "clip", "mask"],
)
def test_optimizers_of_other_libraries_are_named(torch_optimizer, tx, name):
    options = {} if torch_optimizer in (torch.optim.SGD, torch.optim.AdamW) else {"eps": 1e-3}
    clip = (lambda m: torch.nn.utils.clip_grad_norm_(m.parameters(), 0.01)) if name == "clipping" else None
    assert trained(lambda m: torch_optimizer(m.parameters(), 0.1, **options), tx, clip=clip) == [
        ("optimizer", name)
    ]
