import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.engine.objective import classification
from jaxdl.nn.linear import Linear

RNG = np.random.default_rng(0)


class Flat(nnx.Module):
    def __init__(self):
        self.fc = Linear(4, 3, rngs=nnx.Rngs(0))

    def __call__(self, x, _rngs):
        return self.fc(x.reshape(len(x), -1))


@pytest.mark.usefixtures("x64")
def test_loss_with_penalties_is_torchs():
    model, images, labels = Flat(), RNG.normal(size=(5, 2, 2, 1)), RNG.integers(0, 3, 5).astype(np.int32)
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    loss, metrics = classification(label_smoothing=0.1, l1=0.01, l2=0.2)(model, batch, None)
    layer = torch.nn.Linear(4, 3).double()
    layer.weight.data = torch.tensor(np.asarray(model.fc.weight[...]))
    layer.bias.data = torch.tensor(np.asarray(model.fc.bias[...]))
    plain = torch.nn.functional.cross_entropy(
        layer(torch.tensor(images).reshape(5, -1)), torch.tensor(labels).long(), label_smoothing=0.1
    )
    values = torch.cat([p.flatten() for p in layer.parameters()])
    expected = plain + 0.01 * values.abs().sum() + 0.2 / 2 * (values**2).sum()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    # The metric has no penalties: it can be compared with the loss of an evaluation.
    np.testing.assert_allclose(metrics["loss"][0] / metrics["loss"][1], plain.item(), rtol=1e-12)


def test_soft_labels_count_as_their_largest_part():
    model, images = Flat(), RNG.normal(size=(2, 2, 2, 1)).astype(np.float32)
    logits = np.asarray(model(jnp.asarray(images), None))
    soft = np.zeros((2, 3), np.float32)
    soft[0, logits[0].argmax()], soft[0, logits[0].argmin()] = 0.7, 0.3
    soft[1, logits[1].argmin()] = 1.0
    _, metrics = classification()(model, {"image": jnp.asarray(images), "label": jnp.asarray(soft)}, None)
    assert tuple(map(float, metrics["accuracy"])) == (1.0, 2.0)


def test_of_weighted_classes_the_metric_counts_weights():
    """So that ragged batches, and shares of a batch, add up to the mean over all examples."""
    weight = jnp.float32([1, 3])
    logits, labels = jnp.float32([[0, 1], [2, 0], [1, 1], [0, 3]]), jnp.int32([0, 1, 1, 1])
    loss_fn = classification(class_weight=weight)
    whole, measured = loss_fn(lambda x, _: x, {"image": logits, "label": labels}, None)
    parts = [
        loss_fn(lambda x, _: x, {"image": logits[i:j], "label": labels[i:j]}, None) for i, j in ((0, 1), (1, 4))
    ]
    sums, counts = zip(*(part["loss"] for _, part in parts), strict=True)
    assert float(measured["loss"][1]) == 10
    assert float(sum(sums) / sum(counts)) == pytest.approx(float(whole))
