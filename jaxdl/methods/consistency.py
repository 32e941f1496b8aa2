"""Consistency regularisation: what a model says of an image must not depend on noise.

So images teach without labels. An example of such a data set is a labelled image and ``ratio`` images without
(`with_unlabelled`), so a batch has both; `views` makes them one batch of images for the model: first the labelled,
then what the method compares.
Source: Laine and Aila 2017 (Pi-model); Tarvainen and Valpola 2017 (mean teacher); Sohn et al. 2020 (FixMatch);
Liang et al. 2021 (R-Drop).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl.data import subset
from jaxdl.data.sources import Source
from jaxdl.data.transforms import Transform
from jaxdl.engine.metrics import average
from jaxdl.nn import losses
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

UNLABELLED = "unlabelled"  # the entry of a batch: (B, ratio, H, W, C)


def with_unlabelled(source: Source, labels: int, ratio: int, seed: int) -> Source:
    """The data set in which ``labels`` training images keep their label and all are there without.

    An example is one of the former, over and over, and ``ratio`` of the latter; so an epoch shows every image
    without its label once (but for those that fill no example).

    Args:
      source: the data set.
      labels: how many, of each class as many as of the next, or one more.
      ratio: unlabelled images to a labelled one: FixMatch's mu.
      seed: which ones, and how they are grouped.

    Raises:
      ValueError: fewer labels than classes or more than images, or a ratio that is below 1 or above the images.
    """
    images = np.asarray(source.train["image"])
    if not 1 <= ratio <= len(images):
        raise ValueError(f"--ratio must lie between 1 and the {len(images)} training images; got {ratio}")
    known = subset.labelled(source, labels, seed).train
    examples = len(images) // ratio
    order = np.random.default_rng([seed, ratio]).permutation(len(images))[: examples * ratio]
    rows = np.arange(examples) % labels
    train = {name: np.asarray(values)[rows] for name, values in known.items()}
    return dataclasses.replace(
        source, train={**train, UNLABELLED: images[order].reshape(examples, ratio, *images.shape[1:])}
    )


def views(labelled: Transform, *unlabelled: Transform) -> Transform:
    """What makes a stored batch the model's: ``image`` has the labelled images, then each view of the unlabelled.

    Args:
      labelled: prepares the labelled images.
      unlabelled: one for each view; each draws its own noise.
    """

    def apply(key: Array, batch: Batch) -> Batch:
        keys = jax.random.split(key, 1 + len(unlabelled))
        prepared = labelled(keys[0], {"image": batch["image"], "label": batch["label"]})
        images = batch[UNLABELLED].reshape(-1, *batch["image"].shape[1:])
        seen = [view(own, {"image": images})["image"] for view, own in zip(unlabelled, keys[1:], strict=True)]
        return {**prepared, "image": jnp.concatenate([prepared["image"], *seen])}

    return apply


def pi_loss(first: Array, second: Array) -> Array:
    """The mean squared difference of the two probabilities, (); gradients through both. Logits (B, classes)."""
    return losses.mse_loss(jax.nn.softmax(first), jax.nn.softmax(second))


def fixmatch_loss(weak: Array, strong: Array, threshold: float) -> tuple[Array, Array]:
    """The cross-entropy of the strong view against what the model is sure of in the weak one.

    Args:
      weak, strong: logits (B, classes); no gradient goes through the weak.
      threshold: the probability from which on the model is sure.

    Returns:
      The mean over all images, where those it is not sure of count as 0, and a bool (B,): of which it is sure.
    """
    said = jax.lax.stop_gradient(jax.nn.softmax(weak))
    sure, label = said.max(-1) >= threshold, said.argmax(-1).astype(jnp.int32)
    each = losses.cross_entropy(strong, label, reduction="none")
    return jnp.where(sure, each, 0).mean(), sure


def rdrop_loss(first: Array, second: Array) -> Array:
    """The mean of both Kullback-Leibler divergences, (); logits (B, classes) of two dropout masks."""
    p, q = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    there = losses.kl_div(p, q, log_target=True, reduction="none").sum(-1)
    back = losses.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    return (there + back).mean() / 2


def ramp_up(step: Array, length: int) -> Array:
    """``exp(-5 * (1 - step / length)**2)`` up to ``length`` and 1 from there on: Laine and Aila's weight, ()."""
    part = jnp.clip(step.astype(float) / max(length, 1), 0, 1)
    return jnp.where(length > 0, jnp.exp(-5 * jnp.square(1 - part)), 1.0)


def ema(average: PyTree, values: PyTree, decay: Array | float) -> PyTree:
    """``decay * average + (1 - decay) * values``, leaf by leaf.

    Source: https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
    """
    return jax.tree.map(lambda a, v: a + (v - a) * jnp.asarray(1 - decay, a.dtype), average, values)


class Counted(nnx.Module):
    """A model that counts the steps it is trained for; its parameters are those under ``student``."""

    def __init__(self, student: nnx.Module) -> None:
        self.student = student
        self.steps = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def count(self) -> Array:
        """The number of steps before this one, which counts from now on."""
        before = self.steps[...]
        self.steps[...] = before + 1
        return before


class Averaged(nnx.BatchStat):
    """A weight that no optimizer changes."""


class MeanTeacher(Counted):
    """A student and the average of what it was: ``teacher``, whose weights are statistics, not parameters.

    Args:
      student: the model.
      decay: of the average, in [0, 1); the first update copies the student, as torch's ``AveragedModel`` does.

    Raises:
      ValueError: a decay outside its range.
    """

    def __init__(self, student: nnx.Module, decay: float) -> None:
        super().__init__(student)
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the teacher must lie in [0, 1); got {decay}")
        self.teacher, self.decay = averaged(student), decay

    def count(self) -> Array:
        """Also takes in the student's weights, as the step before has left them."""
        before = super().count()
        student = jax.lax.stop_gradient(nnx.to_pure_dict(nnx.state(self.student, nnx.Param)))
        teacher = nnx.to_pure_dict(nnx.state(self.teacher, Averaged))
        nnx.update(self.teacher, ema(teacher, student, _decay(before, self.decay)))
        return before


def averaged(model: nnx.Module) -> nnx.Module:
    """A copy of the model whose parameters are statistics."""
    copy = nnx.clone(model)
    for path, variable in list(nnx.iter_graph(copy)):
        if isinstance(variable, nnx.Param):
            owner = functools.reduce(lambda node, name: getattr(node, str(name)), path[:-1], copy)
            setattr(owner, str(path[-1]), Averaged(variable[...]))
    return copy


def deploy_student(trained: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """``(params, stats)`` of a `Counted` model -> those of the plain one."""
    params, stats = trained
    return params["student"], stats.get("student", {})


def deploy_teacher(trained: tuple[PyTree, PyTree], decay: float) -> tuple[PyTree, PyTree]:
    """``(params, stats)`` of a `MeanTeacher` -> those of the plain model with the average, up to the last step.

    Running statistics are the student's, as with torch's ``AveragedModel(use_buffers=False)``.
    """
    student, stats = deploy_student(trained)
    teacher = _like(trained[1]["teacher"], student)
    return ema(teacher, student, _decay(trained[1]["steps"], decay)), stats


def pi_model(plain: LossFn, weight: float, ramp: int = 0) -> LossFn:
    """The plain loss and ``weight * ramp_up * pi_loss`` of two views, for a `Counted` model."""

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        count = len(batch["label"])
        logits = _run(model.student, batch["image"], rngs)
        loss, metrics = _answered(plain, model.student, logits[:count], batch, rngs)
        distance = pi_loss(*jnp.split(logits[count:], 2))
        return _added(loss, weight * ramp_up(model.count(), ramp), distance, metrics)

    return loss_fn


def mean_teacher(plain: LossFn, weight: float, ramp: int = 0) -> LossFn:
    """The plain loss and ``weight * ramp_up * pi_loss`` of student and teacher, for a `MeanTeacher`.

    The student sees the first view, the teacher the second; no gradient goes through the teacher.
    """

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        labelled, rest = _parts(batch)
        own, others = jnp.split(rest, 2)
        scale = weight * ramp_up(model.count(), ramp)
        logits = _run(model.student, jnp.concatenate([labelled, own]), rngs)
        loss, metrics = _answered(plain, model.student, logits[: len(labelled)], batch, rngs)
        distance = pi_loss(logits[len(labelled) :], jax.lax.stop_gradient(_run(model.teacher, others, rngs)))
        return _added(loss, scale, distance, metrics)

    return loss_fn


def fixmatch(plain: LossFn, weight: float, threshold: float = 0.95) -> LossFn:
    """The plain loss and ``weight * fixmatch_loss`` of the first, weak view and the second, strong one.

    Raises:
      ValueError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold must lie in [0, 1]; got {threshold}")

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        labelled, rest = _parts(batch)
        weak, strong = jnp.split(rest, 2)
        logits = _run(model, jnp.concatenate([labelled, strong]), rngs)
        loss, metrics = _answered(plain, model, logits[: len(labelled)], batch, rngs)
        distance, sure = fixmatch_loss(_run(model, weak, rngs), logits[len(labelled) :], threshold)
        return _added(loss, weight, distance, {**metrics, "sure": average(sure)})

    return loss_fn


def r_drop(plain: LossFn, weight: float) -> LossFn:
    """The plain loss of two dropout masks of the labelled images, and ``weight * rdrop_loss`` between the two."""

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        twice = {name: jnp.concatenate([batch[name]] * 2) for name in ("image", "label")}
        logits = _run(model, twice["image"], rngs)
        loss, metrics = _answered(plain, model, logits, twice, rngs)
        return _added(loss, weight, rdrop_loss(*jnp.split(logits, 2)), metrics)

    return loss_fn


class _Said(nnx.Module):
    """A model that has been run: the plain loss gets its parameters and its answer, without a second run."""

    def __init__(self, model: nnx.Module, logits: Array) -> None:
        self.model, self.logits = model, logits

    def __call__(self, *_: Any) -> Array:
        return self.logits


def _parts(batch: Batch) -> tuple[Array, Array]:
    """The labelled images and the views of the others."""
    count = len(batch["label"])
    return batch["image"][:count], batch["image"][count:]


def _run(model: Any, image: Array, rngs: nnx.Rngs | None) -> Array:
    """Logits, of float32 at least."""
    logits = model(image, rngs)
    return logits.astype(np.promote_types(logits.dtype, np.float32))


def _answered(
    plain: LossFn, model: nnx.Module, logits: Array, batch: Batch, rngs: nnx.Rngs | None
) -> tuple[Array, Metrics]:
    return plain(_Said(model, logits), batch, rngs)


def _added(loss: Array, weight: Array | float, distance: Array, metrics: Metrics) -> tuple[Array, Metrics]:
    scale = jnp.asarray(weight, loss.dtype)
    return loss + scale * distance, {**metrics, "consistency": (distance, jnp.ones_like(distance))}


def _decay(updates: Array, decay: float) -> Array:
    """The first update copies."""
    return jnp.where(jnp.asarray(updates) <= 1, 0.0, decay)


def _like(values: PyTree, pattern: PyTree) -> PyTree:
    """The part of a nested dict that has the keys of another."""
    return {
        name: _like(values[name], part) if isinstance(part, dict) else values[name]
        for name, part in pattern.items()
    }
