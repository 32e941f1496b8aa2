"""Every phase of torch's side, in order."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.pair import PairError
from parity.recording import TRAINING, Recording
from parity.torch_side.groups import kind
from parity.torch_side.side import TorchSide
from parity.torch_side.training import lockstep
from parity.torch_side.values import numpy, outputs
from parity.ways import flat_images


def record(
    side: TorchSide, *, seed: int = 0, steps: int = 5, into: MutableMapping[str, np.ndarray] | None = None
) -> Recording:
    """Every phase; ``into`` takes the tensors as they come, a dict by default.

    Raises:
      PairError: the module cannot be compared.
    """
    facts: dict[str, Any] = {
        "side": "torch",
        "versions": {"torch": torch.__version__},
        "dtype": str(side.dtype).removeprefix("torch."),
        "seed": seed,
        "steps": steps,
        "warnings": [],
        "skipped": {},
    }
    tensors: MutableMapping[str, np.ndarray] = {} if into is None else into
    tensors.update(_evaluation(side, seed, facts))
    _Step(side, seed, facts, tensors).run()
    if side.pair.torch_optimizer and steps:
        tensors.update(lockstep(side, seed, steps, facts))
    else:
        reason = "no updates were asked for" if side.pair.torch_optimizer else "the pair has no torch_optimizer"
        facts["skipped"] |= dict.fromkeys(TRAINING, reason)
    return Recording(tensors, facts)


def _evaluation(side: TorchSide, seed: int, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    module = side.fresh().eval()
    inputs, _ = side.batch(seed, 0)
    with torch.no_grad():
        with _seen(module) as seen:
            made = outputs(side.call(module, inputs))
        again = outputs(side.call(module, inputs))
    if not made:
        raise PairError("the torch module returns no tensor; give outputs=(of_torch, of_flax)")
    for name, value in made.items():
        if not torch.equal(torch.nan_to_num(value), torch.nan_to_num(again[name])):
            raise PairError("the torch module is not deterministic: two evaluations of one batch differ")
    facts["outputs"] = {name: list(value.shape) for name, value in made.items()}
    facts["inputs"] = {str(key): list(value.shape) for key, value in inputs.items()}
    facts["images"] = _images(module, seen)
    return {f"eval_forward/{name}": numpy(value) for name, value in made.items()}


class _Step:
    """The first batch forward and backward in training."""

    def __init__(
        self, side: TorchSide, seed: int, facts: dict[str, Any], tensors: MutableMapping[str, np.ndarray]
    ) -> None:
        self.side, self.seed, self.facts, self.tensors = side, seed, facts, tensors
        self.module = side.fresh().train()
        self.before = {name: numpy(value) for name, value in _buffers(self.module).items()}
        inputs, self.targets = side.batch(seed, 0)
        self.inputs = inputs
        self.floats = {key: x.requires_grad_() for key, x in inputs.items() if x.is_floating_point()}
        named = self.module.named_parameters(remove_duplicate=False)
        self.parameters = {name: x for name, x in named if name not in side.ties and x.requires_grad}

    def run(self) -> None:
        """Outputs, loss, gradients, buffers."""
        with _taken(self.parameters if self.side.own else {}, self.tensors):
            self._loss().backward()
        skipped, tensors = self.facts["skipped"], self.tensors
        tensors.update({f"input_gradients/{key}": _gradient(value) for key, value in self.floats.items()})
        if not self.floats:
            skipped["input_gradients"] = "no input is a floating-point array"
        for name, value in self.parameters.items():
            if f"parameter_gradients/{name}" not in tensors:
                tensors[f"parameter_gradients/{name}"] = _gradient(value)
        after = _buffers(self.module)
        tensors.update({f"buffers/{name}": numpy(value) - self.before[name] for name, value in after.items()})
        if not after:
            skipped["buffers"] = "the torch module has no floating-point buffers"

    def _loss(self) -> torch.Tensor:
        made = self._forward()
        loss = self.side.objective(made, self.targets, self.seed)
        if loss.ndim:
            raise PairError(f"the torch loss has shape {tuple(loss.shape)}; expected a scalar")
        self.tensors.update({f"train_forward/{name}": numpy(value) for name, value in outputs(made).items()})
        if self.side.pair.loss:
            self.tensors["loss/loss"] = numpy(loss)
        else:
            reason = "the pair has no loss; gradients are those of a random projection"
            self.facts["skipped"]["loss"] = reason
        return loss

    def _forward(self) -> Any:
        before = torch.get_rng_state()
        with masks.in_torch(self.seed, 0) as calls:
            made = self.side.call(self.module, self.inputs)
        if not torch.equal(before, torch.get_rng_state()):
            raise PairError(
                "torch's forward draws random numbers in training that the port cannot share: only dropout "
                "of torch.nn.functional can (not that inside nn.LSTM or nn.GRU, nor torch.rand); set it to 0"
            )
        self.facts["dropout"] = calls
        return made


@contextlib.contextmanager
def _taken(
    parameters: Mapping[str, torch.nn.Parameter], tensors: MutableMapping[str, np.ndarray]
) -> Iterator[None]:
    """While it lasts a gradient is recorded and dropped as soon as it is whole."""

    def take(name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            tensors[f"parameter_gradients/{name}"] = torch.Tensor(parameter.grad).double().cpu().numpy()
            parameter.grad = None

        return hook

    handles = [value.register_post_accumulate_grad_hook(take(name)) for name, value in parameters.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _buffers(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    kept = set(module.state_dict())
    return {name: value for name, value in module.named_buffers() if value.is_floating_point() and name in kept}


def _gradient(tensor: torch.Tensor) -> np.ndarray:
    return numpy(torch.zeros_like(tensor) if tensor.grad is None else tensor.grad)


@contextlib.contextmanager
def _seen(module: torch.nn.Module) -> Iterator[dict[str, list[tuple[int, ...]]]]:
    """While it lasts the shapes that modules take and return are noted, by path."""
    found: dict[str, list[tuple[int, ...]]] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(_: Any, args: Any, made: Any) -> None:
            shapes = [tuple(x.shape) for x in outputs((args, made)).values()]
            found.setdefault(path, []).extend(shapes)

        return hook

    handles = [part.register_forward_hook(note(path)) for path, part in module.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _images(module: torch.nn.Module, seen: Mapping[str, list[tuple[int, ...]]]) -> dict[str, list[list[int]]]:
    """For the weight of every Linear of rows the images that it may have been given flattened."""
    shapes = [shape for own in seen.values() for shape in own]
    found = {
        f"{path}.weight": flat_images(own[0][-1], shapes)
        for path, own in seen.items()
        if kind(module.get_submodule(path)) == "Linear" and len(own[0]) == 2
    }
    return {name: [list(image) for image in images] for name, images in found.items() if images}
