import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from jaxdl.methods.fuse import ensemble
from jaxdl.models import Net

RNG = np.random.default_rng(0)


def test_members_under_one_vmap_say_what_each_says_alone():
    nets = [nnx.view(Net((4, 4, 1), 3, hidden=5, rngs=nnx.Rngs(seed)), deterministic=True) for seed in range(3)]
    parts = [nnx.split(net) for net in nets]
    params = ensemble.stack([nnx.to_pure_dict(state) for _, state in parts])
    images = jnp.asarray(RNG.integers(0, 255, (6, 4, 4, 1)), jnp.uint8)
    run = jax.jit(ensemble.probabilities(parts[0][0], lambda images: images.astype(jnp.float32) / 255))
    said = run(params, {}, images)
    alone = [jax.nn.softmax(net(images.astype(jnp.float32) / 255)) for net in nets]
    np.testing.assert_allclose(said, np.stack(alone), rtol=1e-5)


def test_means_are_those_of_torch():
    logits = torch.tensor(RNG.normal(size=(4, 7, 3)))
    said = torch.softmax(logits, -1)
    np.testing.assert_allclose(ensemble.averaged(said.numpy()), said.mean(0), rtol=1e-14)
    np.testing.assert_allclose(ensemble.geometric(said.numpy()), torch.softmax(logits.mean(0), -1), rtol=1e-12)


def test_scores_are_accuracy_and_torchs_cross_entropy():
    logits, labels = torch.tensor(RNG.normal(size=(9, 3))), torch.tensor(RNG.integers(0, 3, 9))
    accuracy, loss = ensemble.scores(torch.softmax(logits, -1).numpy(), labels.numpy())
    assert accuracy == (logits.argmax(1) == labels).double().mean().item()
    np.testing.assert_allclose(loss, torch.nn.functional.cross_entropy(logits, labels).item(), rtol=1e-12)
