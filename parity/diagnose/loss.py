"""The loss: what a port may have made of torch's, tried on torch's outputs in training."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from parity.align import error
from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.functions import Swap, option
from parity.locate import Fault
from parity.prove import Subject
from parity.torch_side import Returned, TorchSide

Loss = Callable[..., torch.Tensor]
LOSSES = (
    "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "kl_div",
)  # fmt: skip


def candidates(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    """Judged by the loss of torch's outputs and by its gradients by them."""
    pair = subject.pair
    if not pair.loss or fault.made is None:
        return
    returned = Returned(TorchSide(pair, subject.module, subject.weights), seed)
    for explanation, loss in losses(pair.loss[0]):
        try:
            found = returned.loss(loss)
        except Exception:  # this loss cannot be computed in that way
            continue
        yield explanation, error(fault.made, found)


def losses(loss: Loss) -> Iterator[tuple[Explanation, Loss]]:
    """What a port may have made of a loss function ``(outputs, *targets) -> scalar``."""
    yield Explanation("loss summed", "take the mean over the batch"), _with(loss, reduction="sum")
    yield Explanation("loss summed", "take the mean over the batch"), lambda made, *t: loss(made, *t) * len(t[0])
    yield Explanation("loss averaged", "take the sum over the batch"), lambda made, *t: loss(made, *t) / len(t[0])
    fix = "divide by the batch, not by all elements"
    yield Explanation("batchmean", fix), _with(loss, reduction="batchmean")
    for value in (0.0, 0.1, 0.05, 0.2):
        fix = f"label smoothing: the port's is {value:g}"
        yield Explanation("label smoothing", fix), _with(loss, label_smoothing=value)
    fix = "weigh the classes, and divide by the sum of the weights"
    yield Explanation("class weights", fix), _with(loss, weight=None)
    fix = "leave out the labels of ignore_index, in the mean as well"
    yield Explanation("ignored labels", fix), _with(loss, ignore_index=-1000)
    fix = "give the loss logits: it takes the softmax itself"
    yield Explanation("softmax twice", fix), lambda made, *t: loss(torch.softmax(made, -1), *t)
    yield (
        Explanation("softmax twice", "give the loss logits"),
        lambda made, *t: loss(torch.log_softmax(made, -1), *t),
    )
    for shift in (1, -1):
        yield (
            Explanation("labels shifted", "labels start at 0"),
            lambda made, *t, shift=shift: loss(made, (t[0] + shift) % made.shape[-1], *t[1:]),
        )
    for factor in (0.5, 2.0, 1 / math.log(2), -1.0):
        fix = f"the port's loss is {factor:g} times torch's"
        yield Explanation("loss scaled", fix), lambda made, *t, factor=factor: loss(made, *t) * factor
    fix = "divide by the classes once"
    yield Explanation("loss scaled", fix), lambda made, *t: loss(made, *t) / made.shape[-1]


def _with(loss: Loss, **more: Any) -> Loss:
    """The loss with other options of the function that it calls."""

    def other(made: Any, *targets: Any) -> torch.Tensor:
        with Swap(LOSSES, option(**more)):
            return loss(made, *targets)

    return other
