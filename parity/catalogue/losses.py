"""Losses: weights, labels, what the mean divides by."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from jaxdl.nn import losses
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, gives, lacks, raises, states
from parity.catalogue.sides import normal, together

LOGITS = normal(6, 4)
LABELS: Any = np.array([0, 1, 2, 3, 1, 0])
WEIGHTS: Any = np.array([1.0, 2.0, 0.5, 3.0])


@entry(
    28,
    "Cross-entropy: class weights and ignore_index",
    Status.CURED,
    torch="the mean is sum(w * l) / sum(w); an ignored label leaves both sums",
    jax="optax gives the loss of each example and knows neither; the label -100 gives NaN",
    instead="jaxdl.nn.losses.cross_entropy(logits, labels, weight=weight, ignore_index=-100)",
)
def class_weights() -> Facts:
    weight = torch.tensor(WEIGHTS)
    some: Any = np.where(LABELS == 1, -100, LABELS)

    def ports(logits: Any) -> Any:
        each, ignoring = (
            optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(y)) for y in (LABELS, some)
        )
        weighted = (each * WEIGHTS[LABELS]).mean(), losses.cross_entropy(logits, LABELS, weight=WEIGHTS)
        ignored = ignoring.mean(), losses.cross_entropy(logits, some)
        return weighted, ignored, losses.cross_entropy(logits, some, weight=WEIGHTS)

    weighted, ignored, both = together(ports, LOGITS)
    yield differs("weighted mean", _cross_entropy(LABELS, weight=weight), *weighted, least=0.1)
    yield differs("with labels -100", _cross_entropy(some), *ignored, least=1)
    yield agrees("both", _cross_entropy(some, weight=weight), both)
    yield lacks(optax.softmax_cross_entropy_with_integer_labels, "weight", "ignore")


@entry(
    29,
    "Cross-entropy: label smoothing, soft targets",
    Status.CURED,
    torch="with class weights the smooth part is weighted and still divided by sum(w[label]); "
    "soft targets with weights are divided by N",
    jax="optax.smooth_labels makes soft targets, whose mean divides by N",
    instead="jaxdl.nn.losses.cross_entropy(logits, labels, weight=weight, label_smoothing=0.1)",
)
def label_smoothing() -> Facts:
    weight = torch.tensor(WEIGHTS)

    def ports(logits: Any) -> Any:
        soft = optax.smooth_labels(jax.nn.one_hot(LABELS, 4), 0.1)
        weighted = -(soft * WEIGHTS * jax.nn.log_softmax(logits)).sum(-1)
        smoothed = weighted.mean(), losses.cross_entropy(logits, LABELS, weight=WEIGHTS, label_smoothing=0.1)
        divided = weighted.sum() / WEIGHTS[LABELS].sum(), losses.cross_entropy(logits, soft, weight=WEIGHTS)
        return soft, smoothed, divided, optax.softmax_cross_entropy(logits, soft).mean()

    soft, smoothed, divided, plain = together(ports, LOGITS)
    theirs = _cross_entropy(LABELS, weight=weight, label_smoothing=0.1)
    yield differs("smoothed labels with weights", theirs, *smoothed, least=0.1)
    theirs = F.cross_entropy(torch.tensor(LOGITS), torch.tensor(array(soft)), weight=weight)
    yield differs("soft targets, divided by sum(w) or N", theirs, *divided, least=0.1)
    yield agrees("smoothed labels without weights", _cross_entropy(LABELS, label_smoothing=0.1), plain)


@entry(
    30,
    "SmoothL1, Huber and MSE: factors",
    Status.OPTIONS,
    torch="smooth_l1_loss(beta) is huber_loss(delta=beta) / beta; mse_loss has no 1/2",
    jax="optax.huber_loss is torch's; optax.l2_loss has the 1/2",
    instead="""
    optax.huber_loss(x, y, delta=beta).mean() / beta   # jaxdl.nn.losses.smooth_l1_loss(x, y, beta=beta)
    optax.squared_error(x, y).mean()                   # jaxdl.nn.losses.mse_loss(x, y)
    """,
)
def factors() -> Facts:
    x, y = LOGITS, normal(6, 4, seed=1)
    t, u = torch.tensor(x), torch.tensor(y)

    def ports(x: Any, y: Any) -> Any:
        huber = optax.huber_loss(x, y, delta=0.5).mean(), losses.smooth_l1_loss(x, y, beta=0.5)
        return huber, (optax.l2_loss(x, y).mean(), losses.mse_loss(x, y))

    huber, squared = together(ports, x, y)
    yield differs("smooth_l1_loss(beta=0.5)", F.smooth_l1_loss(t, u, beta=0.5), *huber, least=0.1)
    yield agrees("huber_loss(delta=0.5)", F.huber_loss(t, u, delta=0.5), huber[0])
    yield differs("mse_loss", F.mse_loss(t, u), *squared, least=0.1)


@entry(
    31,
    "Binary cross-entropy: pos_weight and the clamp",
    Status.CURED,
    torch="BCEWithLogits takes pos_weight; BCE clamps every logarithm at -100",
    jax="optax has no pos_weight, and nothing for probabilities",
    instead="""
    jaxdl.nn.losses.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight)
    jaxdl.nn.losses.binary_cross_entropy(probabilities, targets)
    """,
)
def binary() -> Facts:
    targets = (normal(6, 4, seed=1) > 0).astype(float)
    t, u = torch.tensor(LOGITS), torch.tensor(targets)
    p, y = np.array([0.0, 1.0, 0.3]), np.array([1.0, 0.0, 1.0])

    def ports(logits: Any, targets: Any, p: Any, y: Any) -> Any:
        plain = optax.sigmoid_binary_cross_entropy(logits, targets).mean()
        cured = losses.binary_cross_entropy_with_logits(logits, targets, pos_weight=jnp.asarray(WEIGHTS))
        logarithms = -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()
        return (plain, cured), (logarithms, losses.binary_cross_entropy(p, y))

    weighted, clamped = together(ports, LOGITS, targets, p, y)
    theirs = F.binary_cross_entropy_with_logits(t, u, pos_weight=torch.tensor(WEIGHTS))
    yield differs("pos_weight", theirs, *weighted, least=0.05)
    yield lacks(optax.sigmoid_binary_cross_entropy, "weight")
    yield differs(
        "a probability of 0", F.binary_cross_entropy(torch.tensor(p), torch.tensor(y)), *clamped, least=1
    )


@entry(
    32,
    "KL divergence: the mean",
    Status.CURED,
    torch="'mean' divides by the number of elements; 'batchmean' by that of rows, as the definition does",
    jax="optax.kl_divergence sums over the last axis: its mean is torch's 'batchmean'",
    instead="jaxdl.nn.losses.kl_div(log_probs, targets, reduction='mean')  # and 'batchmean'",
)
def kl_divergence() -> Facts:
    t, u = F.log_softmax(torch.tensor(LOGITS), 1), F.softmax(torch.tensor(normal(6, 4, seed=1)), 1)
    port, cured = together(
        lambda x, y: (optax.kl_divergence(x, y).mean(), losses.kl_div(x, y)), array(t), array(u)
    )
    yield differs("'mean'", F.kl_div(t, u, reduction="mean"), port, cured, least=0.05)
    yield agrees("'batchmean'", F.kl_div(t, u, reduction="batchmean"), port)


@entry(
    33,
    "cosine_similarity of a zero vector",
    Status.OPTIONS,
    torch="0: each norm is at least eps = 1e-8",
    jax="NaN; epsilon bounds the squared norm",
    instead="optax.cosine_similarity(x, y, epsilon=1e-16)",
)
def cosine_similarity() -> Facts:
    x, y = np.stack([np.zeros(3), 1e-9 * np.ones(3), np.ones(3)]), np.stack([np.arange(3.0)] * 3)
    theirs = F.cosine_similarity(torch.tensor(x), torch.tensor(y))
    made = together(
        lambda x, y: (optax.cosine_similarity(x, y), optax.cosine_similarity(x, y, epsilon=1e-16)), x, y
    )
    yield differs("similarities, with a zero and a tiny vector", theirs, *made, least=0.1)
    yield agrees("of others", theirs[2], made[0][2])


@entry(
    34,
    "std and var",
    Status.OPTIONS,
    torch="over n - 1",
    jax="over n",
    instead="jnp.std(x, ddof=1), jnp.var(x, ddof=1)",
)
def spread() -> Facts:
    x = normal(5)
    t = torch.tensor(x)
    std, var = together(lambda x: [(f(x), f(x, ddof=1)) for f in (jnp.std, jnp.var)], x)
    yield differs("std of 5 numbers", t.std(), *std, least=0.01)
    yield differs("var of 5 numbers", t.var(), *var, least=0.01)


@entry(
    65,
    "Labels out of range",
    Status.CURED,
    torch="an error, but for ignore_index",
    jax="optax takes -1 for the last class and says nothing; -100 gives NaN",
    instead="jaxdl.nn.losses.cross_entropy(logits, labels)  # NaN for every such label, so it cannot go unseen",
)
def labels_out_of_range() -> Facts:
    def ports(logits: Any) -> Any:
        labels = (jnp.full(6, label) for label in (-1, 3, -100))
        each = [optax.softmax_cross_entropy_with_integer_labels(logits, label) for label in labels]
        return *each, losses.cross_entropy(logits, jnp.full(6, -1))

    wrapped, last, broken, ours = together(ports, LOGITS)
    yield states("torch refuses -1", raises(lambda: _cross_entropy(np.full(6, -1)), IndexError))
    yield agrees("optax: -1 is the last class", last, wrapped)
    yield gives("optax: -100", broken, np.full(6, np.nan))
    yield gives("jaxdl: -1", ours, np.nan)


def _cross_entropy(labels: Any, **settings: Any) -> torch.Tensor:
    return F.cross_entropy(torch.tensor(LOGITS), torch.tensor(labels), **settings)
