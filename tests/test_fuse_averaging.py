"""SWA and EMA step by step against torch.optim.swa_utils."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch.optim import swa_utils

from jaxdl import tree
from jaxdl.data.loader import Loader
from jaxdl.engine import state
from jaxdl.engine.objective import classification
from jaxdl.engine.step import train_step
from jaxdl.methods.fuse import averaging
from jaxdl.methods.fuse.averaging import When
from jaxdl.models import Net
from jaxdl.nn.norm import BatchNorm
from jaxdl.optim.optimizers import rates, sgd
from jaxdl.optim.transforms import accumulate

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(1, 2, (9, 8, 4, 4, 1)), RNG.integers(0, 3, (9, 8))  # nine batches of eight


class Normed(nnx.Module):
    """BatchNorm in front of the document's network."""

    def __init__(self, dtype=jnp.float64):
        self.bn, self.net = BatchNorm(1), Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(0))
        cast = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
        nnx.update(self, jax.tree.map(cast, nnx.state(self)))

    def __call__(self, x, rngs=None):
        return self.net(self.bn(x), rngs)


class TorchNormed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = torch.nn.BatchNorm2d(1)
        self.net = torch.nn.ModuleDict({"fc1": torch.nn.Linear(16, 5), "fc2": torch.nn.Linear(5, 3)})
        self.double()

    def forward(self, x):
        return self.net["fc2"](torch.relu(self.net["fc1"](self.bn(x).flatten(1))))


def twin(model):
    module = TorchNormed()
    values = tree.flatten(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in values.items()})
    return module


def torch_image(batch):
    return torch.tensor(IMAGES[batch]).permute(0, 3, 1, 2)


def prepare(_, batch):
    return batch


RULES = {
    "swa": (averaging.swa_rule, {}),
    "ema": (averaging.ema_rule(0.9), {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)}),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("when", [When(), When(3, 2)])
def test_every_step_equals_torchs_averaged_model(name, use_buffers, when):
    rule, options = RULES[name]
    model = Normed()
    module, optimizer = twin(model), None
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    theirs = swa_utils.AveragedModel(module, use_buffers=use_buffers, **options)

    tx = averaging.following(sgd(0.1, momentum=0.9), rule, when)
    loss_fn = averaging.tracking(classification(), rule, when, use_buffers=use_buffers)
    graph, current = state.create(averaging.Averaged(model), tx, jax.random.key(0))
    step = jax.jit(train_step(graph, loss_fn, tx, prepare))
    for batch in range(9):
        optimizer.zero_grad()
        F.cross_entropy(module(torch_image(batch)), torch.tensor(LABELS[batch])).backward()
        optimizer.step()
        labels = jnp.asarray(LABELS[batch], jnp.int32)
        current, _ = step(current, {"image": jnp.asarray(IMAGES[batch]), "label": labels})
        begun = batch + 1 >= when.start
        if begun and (batch + 1 - when.start) % when.every == 0:
            theirs.update_parameters(module)
        params, stats = averaging.average_of((current.params, current.stats))
        ours = tree.flatten(params) | tree.flatten(stats)
        expected = theirs.module.state_dict() if begun else module.state_dict()
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(ours[key], value, rtol=1e-12, atol=1e-15, err_msg=f"{key} {batch}")


@pytest.mark.usefixtures("x64")
def test_statistics_of_an_average_equal_torchs_update_bn():
    model = Normed()
    module = twin(model)
    sizes = [8, 8, 5]  # the last batch is ragged, and counts as much as another
    images = np.concatenate([IMAGES[batch][:size] for batch, size in enumerate(sizes)])
    swa_utils.update_bn([torch_image(batch)[:size] for batch, size in enumerate(sizes)], module)

    params, stats = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    loader = Loader({"image": images}, 8, shuffle=False)
    found = tree.flatten(averaging.update_bn(model, params, stats, loader, lambda batch: batch))
    expected = {name: value for name, value in module.state_dict().items() if name in found}
    assert found.keys() == {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-13)


def test_the_model_trains_as_without_an_average():
    """Also under clipping and accumulation, which must not see the average."""
    batches = [
        {"image": jnp.asarray(x, jnp.float32), "label": jnp.asarray(y, jnp.int32)}
        for x, y in zip(IMAGES, LABELS, strict=True)
    ]
    inner = accumulate(sgd(0.1), 2)
    plain_graph, plain = state.create(Normed(jnp.float32), inner, jax.random.key(0))
    tx = averaging.following(inner, averaging.swa_rule, When())
    graph, averaged = state.create(averaging.Averaged(Normed(jnp.float32)), tx, jax.random.key(0))
    loss_fn = averaging.tracking(classification(l2=0.1), averaging.swa_rule, When())
    step = jax.jit(train_step(graph, loss_fn, tx, prepare))
    plain_step = jax.jit(train_step(plain_graph, classification(l2=0.1), inner, prepare))
    for batch in batches[:4]:
        plain, _ = plain_step(plain, batch)
        averaged, _ = step(averaged, batch)
    for ours, theirs in zip(*(jax.tree.leaves(p) for p in (averaged.params["model"], plain.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert float(rates(averaged.opt_state)[0].rate) == float(rates(plain.opt_state)[0].rate)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_outside_its_range_is_an_error(decay):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]; got"):
        averaging.ema_rule(decay)
