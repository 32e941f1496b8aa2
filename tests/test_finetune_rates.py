"""Layer-wise rates and gradual unfreezing against torch's parameter groups in float64, and bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.methods.finetune import rates
from jaxdl.models import MODELS, Net
from jaxdl.nn import losses
from jaxdl.optim.optimizers import adam, adamw, sgd
from jaxdl.optim.schedules import exponential_lr
from jaxdl.optim.transforms import accumulate, clip_by_norm, freeze

STEPS, LR, GAMMA = 7, 0.05, 0.8
DRAW = np.random.default_rng(0)
IMAGES, LABELS = DRAW.normal(size=(STEPS, 5, 4)), DRAW.integers(0, 3, (STEPS, 5))


def start():
    """A network of three layers in float64, and torch's with the same weights."""
    mine = Net((2, 2, 1), 3, hidden=6, depth=2, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda x: x.astype(jnp.float64), nnx.to_pure_dict(nnx.state(mine, nnx.Param)))
    theirs = torch.nn.Sequential()
    for name in ("fc1", "fc2", "fc3"):
        weight, bias = (torch.tensor(np.asarray(params[name][part])) for part in ("weight", "bias"))
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.load_state_dict({"weight": weight, "bias": bias})
        theirs.add_module(name, layer)
        if name != "fc3":
            theirs.add_module(f"relu{name}", torch.nn.ReLU())
    return nnx.graphdef(mine), params, theirs


def train(graph, params, tx, steps=STEPS):
    def step(carry, batch):
        params, state = carry
        image, label = batch

        def loss_of(params):
            logits = nnx.merge(graph, params)(image.reshape(-1, 2, 2, 1))
            return losses.cross_entropy(logits, label)

        updates, state = tx.update(jax.grad(loss_of)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    batches = (jnp.asarray(IMAGES[:steps]), jnp.asarray(LABELS[:steps]))
    return jax.lax.scan(step, (params, tx.init(params)), batches)[0][0]


def torch_step(net, optimizer, place, clip=None):
    net.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(net(torch.tensor(IMAGES[place])), torch.tensor(LABELS[place]))
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], clip)
    optimizer.step()


def assert_same_changes(params, start, net):
    theirs = net.state_dict()
    for name, mine in tree.flatten(params).items():
        origin, other = tree.flatten(start)[name], theirs[name].numpy()
        np.testing.assert_allclose(mine - origin, other - origin, rtol=1e-9, atol=1e-13, err_msg=name)


OPTIMIZERS = [
    (lambda lr: sgd(lr, momentum=0.9, weight_decay=0.1), torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (adam, torch.optim.Adam, {}),
    (lambda lr: adamw(lr, weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("make", "theirs", "options"), OPTIMIZERS)
def test_layer_wise_rates_under_a_frozen_layer_are_torchs_parameter_groups(make, theirs, options):
    graph, params, net = start()
    factors = {"fc2.weight": 0.5, "fc2.bias": 0.5}
    tx = optax.chain(clip_by_norm(0.5), make(exponential_lr(LR, GAMMA)))
    tx = freeze(optax.chain(tx, rates.scale_rates(factors)), "fc1.*")
    trained = train(graph, params, tx)
    net.fc1.requires_grad_(False)
    groups = [{"params": net.fc2.parameters(), "lr": 0.5 * LR}, {"params": net.fc3.parameters(), "lr": LR}]
    optimizer = theirs(groups, **options)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, GAMMA)
    for place in range(STEPS):
        torch_step(net, optimizer, place, clip=0.5)
        schedule.step()
    assert_same_changes(trained, params, net)
    for part in ("weight", "bias"):
        assert np.asarray(trained["fc1"][part]).tobytes() == np.asarray(params["fc1"][part]).tobytes()


STAGES = {"fc3.weight": 0, "fc3.bias": 0, "fc2.weight": 1, "fc2.bias": 1, "fc1.weight": 2, "fc1.bias": 2}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("make", "theirs", "options"), OPTIMIZERS)
def test_gradual_unfreezing_is_a_new_torch_optimizer_at_each_stage(make, theirs, options):
    graph, params, net = start()
    tx = optax.chain(clip_by_norm(0.5), make(exponential_lr(LR, GAMMA)))
    trained = train(graph, params, rates.unfreeze_gradually(tx, STAGES, every=2))
    net.requires_grad_(False)
    optimizer = None
    for place in range(STEPS):
        if place in (0, 2, 4):
            net.get_submodule({0: "fc3", 2: "fc2", 4: "fc1"}[place]).requires_grad_(True)
            optimizer = theirs([p for p in net.parameters() if p.requires_grad], lr=LR, **options)
        optimizer.param_groups[0]["lr"] = LR * GAMMA**place
        torch_step(net, optimizer, place, clip=0.5)
    assert_same_changes(trained, params, net)


@pytest.mark.usefixtures("x64")
def test_what_waits_stays_bit_for_bit():
    graph, params, _ = start()
    params = {**params, "fc1": {"weight": params["fc1"]["weight"], "bias": jnp.full(6, -0.0)}}
    tx = rates.unfreeze_gradually(sgd(LR, momentum=0.9, weight_decay=0.1), STAGES, every=3)
    trained = train(graph, params, tx, steps=6)
    for part in ("weight", "bias"):
        assert np.asarray(trained["fc1"][part]).tobytes() == np.asarray(params["fc1"][part]).tobytes()
        assert not np.array_equal(trained["fc2"][part], params["fc2"][part])


@pytest.mark.usefixtures("x64")
def test_accumulated_batches_begin_anew_with_a_stage():
    graph, params, net = start()
    tx = rates.unfreeze_gradually(accumulate(adam(LR), 2), STAGES, every=4)
    trained = train(graph, params, tx, steps=6)
    net.requires_grad_(False)
    for first, name in ((0, "fc3"), (4, "fc2")):
        net.get_submodule(name).requires_grad_(True)
        optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=LR)
        for place in range(first, min(first + 4, 6), 2):
            net.zero_grad()
            for batch in (place, place + 1):
                logits = net(torch.tensor(IMAGES[batch]))
                (torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS[batch])) / 2).backward()
            optimizer.step()
    assert_same_changes(trained, params, net)


@pytest.mark.parametrize(
    ("name", "shape", "sizes", "expected"),
    [
        ("net", (4, 4, 1), {}, ["fc1", "fc2"]),
        ("cnn", (8, 8, 1), {}, ["conv1", "conv2", "fc1", "fc2"]),
        ("resnet18", (8, 8, 3), {}, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        (
            "vit",
            (8, 8, 1),
            {"depth": 11, "hidden": 3, "heads": 1},
            ["conv_proj", "class_token", "encoder"]
            + [f"encoder.layers.encoder_layer_{number}" for number in range(11)]
            + ["encoder.ln", "heads.head"],
        ),
    ],
)
def test_layers_come_in_the_order_of_the_forward_pass(name, shape, sizes, expected):
    model = nnx.eval_shape(lambda: MODELS[name](shape, 5, **sizes, rngs=nnx.Rngs(0)))
    order = rates.layers(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    assert [rates.layer_of(names[0]) for names in order] == expected
    own = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert sorted(name for names in order for name in names) == sorted(own)


def test_rates_decay_from_the_head_backwards():
    assert rates.decayed_rates([["a"], ["b", "c"], ["d"]], 0.5) == {"a": 0.25, "b": 0.5, "c": 0.5, "d": 1.0}


@pytest.mark.parametrize("decay", [0.0, 1.1, -0.5, float("nan")])
def test_a_decay_outside_0_to_1_is_an_error(decay):
    with pytest.raises(ValueError, match="--layer-decay expects a factor above 0 and at most 1"):
        rates.decayed_rates([["a"]], decay)
