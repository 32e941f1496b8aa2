"""Members of one program against the same trained alone, in both ways and on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data.loader import Loader
from jaxdl.engine import parallel
from jaxdl.engine.state import TrainState
from jaxdl.methods import sweep

DATA = {"image": np.arange(12, dtype=np.float32).reshape(12, 1), "label": np.arange(12)}
RATES = np.float32([0.1, 0.2, 0.3, 0.4])


def step_of(values):
    """A step that can be worked out by hand: ``w <- w - lr * mean(image)``."""

    def step(state, batch):
        params = {"w": state.params["w"] - values["lr"] * jnp.mean(batch["image"])}
        count = jnp.float32(len(batch["label"]))
        return TrainState(state.step + 1, params, {}, (), state.key), {"loss": (params["w"] * count, count)}

    return step


def state(start):
    return TrainState(jnp.int32(0), {"w": jnp.float32(start)}, {}, (), jax.random.key(0))


def run(way, devices, active):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    loaders = [Loader(DATA, 4, seed=seed) for seed in range(4)]
    program = sweep.train_chunk(step_of, loaders[0].take, mesh, way)
    states = sweep.stack([state(start) for start in (1, 2, 3, 4)], mesh)
    losses = []
    for chunk in sweep.chunks(loaders, 3, 2):
        arrays = parallel.replicate(mesh, loaders[0].resident_arrays)
        states, metrics = program(states, {"lr": jnp.asarray(RATES)}, jnp.asarray(active), arrays, chunk.items)
        losses.append(np.asarray(metrics["loss"][0]))
    return np.asarray(states.params["w"]), np.concatenate(losses, 1)


def by_hand():
    weights, losses = [], []
    for seed, rate in enumerate(RATES):
        w, own = np.float32(seed + 1), []
        for number in range(3):
            w = w - rate * DATA["image"][Loader(DATA, 4, seed=seed).rows(number)].mean()
            own.append(4 * w)
        weights.append(w)
        losses.append(own)
    return weights, losses


@pytest.mark.parametrize("way", ["map", "vmap"])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_every_member_takes_its_own_steps(way, devices):
    weights, losses = run(way, devices, [True] * 4)
    expected = by_hand()
    np.testing.assert_allclose(weights, expected[0], rtol=1e-6)
    np.testing.assert_allclose(losses, expected[1], rtol=1e-6)


def test_a_member_that_is_not_active_stays_as_it_is():
    weights, losses = run("map", 2, [True, False, True, False])
    np.testing.assert_allclose(weights, [by_hand()[0][0], 2, by_hand()[0][2], 4], rtol=1e-6)
    assert not losses[[1, 3]].any()


@pytest.mark.parametrize("way", ["map", "vmap"])
def test_every_member_is_evaluated_on_every_example(way):
    mesh = parallel.make_mesh(jax.devices()[:2])
    loader = Loader(DATA, 5, shuffle=False)  # the last batch is ragged

    def step(state, batch):
        return jnp.sum(batch["image"]) * state.params["w"]

    states = sweep.stack([state(start) for start in (1, 2)], mesh)
    parts = sweep.evaluator(step, loader, mesh, way)(states, jnp.array([True, True]))
    np.testing.assert_allclose(np.concatenate(parts, 1).sum(1), [66, 132])


def test_members_are_shared_out_evenly():
    with pytest.raises(ValueError, match="expected a multiple of 2 members, as many on each device; got 3"):
        sweep.stack([state(0)] * 3, parallel.make_mesh(jax.devices()[:2]))


def test_chunks_of_equal_loaders_are_made_once(monkeypatch):
    made = []
    order = Loader.order
    monkeypatch.setattr(Loader, "order", lambda self, epoch: made.append(self.seed) or order(self, epoch))
    one, other = Loader(DATA, 4, seed=0), Loader(DATA, 4, seed=1)
    (chunk, *_) = sweep.chunks([one, other, one], 3, 3)
    assert made == [0, 1]
    assert chunk.items.shape == (3, 3, 4)
    np.testing.assert_array_equal(chunk.items[0], chunk.items[2])


def test_the_faster_way_is_found_and_one_that_lacks_memory_is_not():
    def lacks():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    seconds = sweep.fastest({"map": lambda: jnp.zeros(1), "vmap": lacks})
    assert seconds["map"] < seconds["vmap"] == float("inf")

    def breaks():
        raise jax.errors.JaxRuntimeError("INTERNAL")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        sweep.fastest({"map": breaks})
