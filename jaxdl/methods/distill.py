"""Distillation: a student learns what a teacher says of an image, beside the image's label.

What the teacher says are further entries of a batch, so any technique can add them: `teacher` makes the function
that gives them, `with_answers` stores them with a data set once, `answering` asks in every step (for augmented
images). `distillation` is the loss of a student on such batches.
Source: Hinton, Vinyals and Dean 2015; Romero et al. 2014 (FitNets); Furlanello et al. 2018 (born-again networks).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl.data.loader import Loader
from jaxdl.data.sources import Source, Split
from jaxdl.data.transforms import Transform
from jaxdl.engine import parallel
from jaxdl.engine.metrics import average
from jaxdl.methods.features import Answered, output_shape, with_outputs
from jaxdl.nn import losses
from jaxdl.nn.linear import Linear
from jaxdl.nn.pooling import adaptive_avg_pool2d
from jaxdl.typing import Array, Batch, LossFn, Metrics

LOGITS, HINT = "teacher_logits", "teacher_hint"  # the entries of a batch that hold what the teacher says
BATCH = 500  # images that a teacher is asked about at once

# A model in evaluation mode, and what makes images its input.
Member = tuple[nnx.Module, Callable[[Batch], Batch]]
Teacher = Callable[[Batch], Batch]


def soft_target_loss(logits: Array, teacher_logits: Array, temperature: float) -> Array:
    """``T^2 * KL(softmax(teacher_logits / T) || softmax(logits / T))`` of each example, (B,).

    The factor keeps the gradient's size as the temperature grows; without it, it falls with ``1 / T^2``.

    Args:
      logits, teacher_logits: (B, classes) of one dtype.
      temperature: T, above 0.
    """
    student, teacher = (jax.nn.log_softmax(values / temperature) for values in (logits, teacher_logits))
    divergence = losses.kl_div(student, teacher, log_target=True, reduction="none")
    return temperature**2 * divergence.sum(-1)


def distillation(
    plain: LossFn, *, temperature: float = 4.0, soft_weight: float = 0.9, hint_weight: float = 0.0
) -> LossFn:
    """``(1 - w) * cross-entropy + w * soft_target_loss + v * hint loss``, and the penalties of the plain loss.

    Args:
      plain: the loss without a teacher; its metric ``loss`` is the cross-entropy.
      temperature: T of `soft_target_loss`.
      soft_weight: w, in [0, 1]: Hinton's alpha. With 1 the labels are not used.
      hint_weight: v, with which the mean squared distance to the teacher's hint counts; the model is then a
        `Hinted` one.

    Raises:
      ValueError: a number outside its range.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0; got {temperature}")
    if not 0 <= soft_weight <= 1:
        raise ValueError(f"the weight of soft targets must lie in [0, 1]; got {soft_weight}")
    if not hint_weight >= 0:
        raise ValueError(f"the weight of hints must be at least 0; got {hint_weight}")

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        run = model.with_guess if hint_weight else lambda *inputs: (model(*inputs), None)
        logits, guess = run(batch["image"], rngs)
        loss, metrics = plain(Answered(model, logits), batch, rngs)
        total, count = metrics["loss"]
        each = soft_target_loss(logits.astype(loss.dtype), batch[LOGITS].astype(loss.dtype), temperature)
        loss += soft_weight * (each.mean() - total / count)
        metrics = {**metrics, "soft_loss": average(each)}
        if guess is not None:
            distance = hint_loss(guess.astype(loss.dtype), batch[HINT].astype(loss.dtype))
            loss += hint_weight * distance
            metrics["hint_loss"] = (distance * count, count)
        return loss, metrics

    return loss_fn


def hint_loss(guess: Array, hint: Array) -> Array:
    """The mean squared distance between the student's guess and the teacher's hint, ().

    Of feature maps (B, H, W, C) of two sizes the larger is averaged down to the smaller.

    Raises:
      ValueError: the two cannot be compared.
    """
    if guess.ndim == hint.ndim == 4:
        size = min(guess.shape[1], hint.shape[1]), min(guess.shape[2], hint.shape[2])
        guess, hint = (x if x.shape[1:3] == size else adaptive_avg_pool2d(x, size) for x in (guess, hint))
    if guess.shape != hint.shape:
        raise ValueError(
            f"a hint is of the form of the student's layer, but for the number of features; the student's gives "
            f"{guess.shape[1:-1]}, the teacher's {hint.shape[1:-1]}"
        )
    return losses.mse_loss(guess, hint)


class Hinted(nnx.Module):
    """A student and the regressor that makes what one of its layers gives a guess at the teacher's hint.

    Args:
      student: the model; its parameters are those under ``student``.
      layer: of the student, see `jaxdl.methods.features.with_outputs`.
      features, hint_features: the last axis of that layer's output and of the hint.
      rngs: draws the regressor's weights from its ``params`` stream.
    """

    def __init__(
        self, student: nnx.Module, layer: str, features: int, hint_features: int, *, rngs: nnx.Rngs
    ) -> None:
        self.student, self.layer = student, layer
        self.regressor = Linear(features, hint_features, rngs=rngs)

    def with_guess(self, image: Array, rngs: nnx.Rngs | None) -> tuple[Array, Array]:
        """The logits, and the guess: the layer's output with ``hint_features`` in its last axis."""
        logits, [features] = with_outputs(self.student, [self.layer], image, rngs)
        return logits, self.regressor(features)


def hinted(
    student: nnx.Module, layer: str, image_shape: Sequence[int], hint_shape: Sequence[int], key: Array
) -> Hinted:
    """A `Hinted` student for images (H, W, C) and hints of shape ``hint_shape``, without the axis of examples.

    Raises:
      ValueError: the student lacks the layer, or the layer's output cannot be compared with the hint.
    """
    features = output_shape(student, layer, image_shape)
    guess, hint = (
        jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in ((*features[:-1], hint_shape[-1]), hint_shape)
    )
    jax.eval_shape(hint_loss, guess, hint)
    return Hinted(student, layer, features[-1], hint_shape[-1], rngs=nnx.Rngs(params=key))


def student_of(parts: tuple[Any, Any]) -> tuple[Any, Any]:
    """The student's ``(params, stats)`` of those of a `Hinted` one."""
    params, stats = parts
    return params["student"], stats.get("student", {})


def teacher(members: Sequence[Member], layer: str | None = None) -> Teacher:
    """``batch -> {"teacher_logits": (B, classes)}`` and, of a layer, ``"teacher_hint"``: what a teacher says.

    Args:
      members: one model, or several, whose logits are averaged: their distributions' geometric mean at every
        temperature, as Hinton et al. average an ensemble.
      layer: whose output is the hint.

    Raises:
      ValueError: a hint of several models; when called, a layer that the model lacks.
    """
    if layer is not None and len(members) > 1:
        raise ValueError(f"a hint is of one teacher; got {len(members)}")

    parts = [(nnx.split(model), prepare) for model, prepare in members]

    def ask(batch: Batch) -> Batch:
        said = [
            with_outputs(nnx.merge(*model), [layer] if layer else [], prepare(batch)["image"])
            for model, prepare in parts
        ]
        logits = [answer for answer, _ in said]
        hints = {HINT: said[0][1][0]} if layer else {}
        return {LOGITS: sum(logits[1:], logits[0]) / len(logits), **hints}

    return ask


def answers(ask: Teacher, split: Split) -> dict[str, np.ndarray]:
    """What a teacher says of every image of a split, in stored order."""
    loader = Loader(split, min(BATCH, len(split["label"])), shuffle=False)
    mesh = parallel.make_mesh(parallel.first_devices(1))
    no_state: Any = {}
    parts = jax.device_get(parallel.evaluator(lambda _, batch: ask(batch), loader, mesh)(no_state))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name].reshape(-1, *part[name].shape[2:]) for part in parts])

    return {name: joined(name) for name in parts[0]}


def with_answers(ask: Teacher, source: Source) -> Source:
    """The data set with what a teacher says of each training image beside its label."""
    return dataclasses.replace(source, train={**source.train, **answers(ask, source.train)})


def answering(ask: Teacher, prepare: Transform) -> Transform:
    """``prepare``, and then what a teacher says of the prepared images: for images that are augmented anew."""

    def apply(key: Array, batch: Batch) -> Batch:
        batch = prepare(key, batch)
        return {**batch, **ask(batch)}

    return apply
