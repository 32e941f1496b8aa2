"""torch's side: runs the module through every phase and records what came out."""

import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.bridge import Group
from parity.pair import Pair, PairError, projection
from parity.recording import Recording

# The classes whose parameters the bridge understands; subclasses count as the first that fits.
KINDS = (
    "Linear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "SyncBatchNorm",
    "LayerNorm",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "RMSNorm",
    "Embedding",
    "EmbeddingBag",
    "LSTM",
    "GRU",
    "RNN",
    "LSTMCell",
    "GRUCell",
    "RNNCell",
    "MultiheadAttention",
    "PReLU",
    "Bilinear",
    "Conv1D",  # of transformers: a Linear whose weight lies (in, out)
)
SETTINGS = ("num_layers", "bidirectional", "num_heads", "groups", "batch_first", "output_padding", "padding")


def describe(module: torch.nn.Module) -> list[Group]:
    """The groups of a module, in the order of definition; the integer buffers are left out."""
    persistent = set(module.state_dict())
    groups = []
    for name, child in module.named_modules():
        own = dict(child.named_parameters(recurse=False, remove_duplicate=False))
        buffers = {
            key: value
            for key, value in child.named_buffers(recurse=False)
            if value.is_floating_point() and (f"{name}.{key}" if name else key) in persistent
        }
        if own or buffers:
            leaves = {key: tuple(value.shape) for key, value in (own | buffers).items()}
            settings = {
                key: getattr(child, key) for key in SETTINGS if isinstance(getattr(child, key, None), int | bool)
            }
            groups.append(Group(name, kind(child), leaves, tuple(buffers), settings))
    return groups


def kind(module: torch.nn.Module) -> str:
    """The first of `KINDS` among the classes of a module, or the name of its own."""
    names = [cls.__name__ for cls in type(module).__mro__]
    return next((name for name in names if name in KINDS), names[0])


def tied(module: torch.nn.Module) -> dict[str, str]:
    """Keys of the state_dict that share a parameter with an earlier one -> that one."""
    first: dict[int, str] = {}
    return {
        name: first[id(value)]
        for name, value in module.named_parameters(remove_duplicate=False)
        if first.setdefault(id(value), name) != name
    }


def state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """The floating-point entries of the state_dict, float64.

    Raises:
      PairError: one holds NaN or infinity, or is complex.
    """
    found, problems = {}, []
    for name, value in module.state_dict().items():
        if value.is_complex():
            problems.append(f"{name} is complex, which is not supported")
        elif value.is_floating_point():
            found[name] = value.detach().double().cpu().numpy()
            bad = int((~np.isfinite(found[name])).sum())
            if bad:
                problems.append(f"{name} holds NaN or infinity ({bad} of {found[name].size} values)")
    if problems:
        raise PairError(f"torch weights: {'; '.join(problems)}")
    return found


def load(module: torch.nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """Overwrites the floating-point entries of the state_dict that are given."""
    with torch.no_grad():
        own = module.state_dict(keep_vars=True)
        for name, value in values.items():
            own[name].copy_(torch.as_tensor(np.asarray(value)))


def shaken(values: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Random values where all of a tensor are the same: a fresh norm's scale, a zero bias, running statistics."""
    rng, result = np.random.default_rng([seed, 3]), {}
    for name, value in values.items():
        constant = value.size > 0 and bool((value == value.flat[0]).all())
        noise = rng.standard_normal(value.shape)
        if not constant:
            result[name] = value
        elif name.endswith("running_var"):
            result[name] = value.flat[0] * np.exp(0.3 * noise)
        else:
            result[name] = value + 0.2 * noise
    return result


def starting(pair: Pair, module: torch.nn.Module, seed: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights that a comparison starts with, float64, and what was done to them."""
    told = []
    floats = {
        str(value.dtype).removeprefix("torch.") for value in module.parameters() if value.is_floating_point()
    }
    if floats - {"float32", "float64"}:
        told.append(f"torch's weights are {', '.join(sorted(floats))}; they are taken into float64 as they are")
    weights = state(module)
    if pair.weights != "copy" or not pair.shake:
        return weights, told
    changed = shaken(weights, seed)
    count = sum(changed[name] is not weights[name] for name in weights)
    if count:
        told.append(f"{count} constant tensors (norm scales, zero biases, ...) got random values on both sides")
    return changed | {name: changed[first] for name, first in tied(module).items()}, told


def perturbed(values: Mapping[str, np.ndarray], seed: int, size: float) -> dict[str, np.ndarray]:
    """Every value changed by a relative error: what rounding alone could have made of it."""
    rng = np.random.default_rng([seed, 4])

    def moved(value: np.ndarray) -> np.ndarray:
        noise = np.asarray(rng.standard_normal(value.shape))  # changed in place: it may be large
        noise *= size
        noise += 1
        noise *= value
        return noise

    return {name: moved(value) for name, value in values.items()}


def outputs(values: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a module returned, by their place."""
    if isinstance(values, torch.Tensor):
        return {"output": values}
    items = (
        values.items()
        if isinstance(values, Mapping)
        else enumerate(values)
        if isinstance(values, tuple | list)
        else ()
    )
    found = {}
    for place, value in items:
        inner = outputs(value)
        found |= {str(place) if name == "output" else f"{place}.{name}": tensor for name, tensor in inner.items()}
    return found


class TorchSide:
    """The torch module of a pair, in one precision.

    Args:
      pair: its torch part.
      module: of the pair.
      weights: loaded into it, see `state`.
      dtype: to compute in.
      hold: keys of parameters, or parts ``key[start:stop]`` of them, that no update changes.
      device: where.
      noise: relative size of random changes of the inputs.
      own: the module is given away: it is used as it is, and gradients go as soon as they are recorded. For large
        models, without updates.
    """

    def __init__(
        self,
        pair: Pair,
        module: torch.nn.Module,
        weights: Mapping[str, np.ndarray],
        *,
        dtype: torch.dtype = torch.float64,
        hold: frozenset[str] = frozenset(),
        device: str = "cpu",
        noise: float = 0.0,
        own: bool = False,
    ) -> None:
        self.pair, self.dtype, self.device, self.hold, self.noise = pair, dtype, device, hold, noise
        self.own = own
        self.start = (module if own else copy.deepcopy(module)).to(device=device, dtype=dtype)
        load(self.start, weights)
        self.ties = tied(self.start)

    def fresh(self) -> torch.nn.Module:
        """A module as it was at the start."""
        shared = {id(parameter): parameter for parameter in self.start.parameters()} if self.own else {}
        module = copy.deepcopy(self.start, shared)
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for held in self.hold:
            part = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", held)
            if part:
                _hold(parameters[part[1]], int(part[2]), int(part[3]))
            else:
                parameters[held].requires_grad_(False)
        return module

    def batch(self, seed: int, step: int) -> tuple[dict[Any, torch.Tensor], tuple[torch.Tensor, ...]]:
        """Inputs and targets of a step as tensors; `noise` is put on the inputs alone."""
        inputs, targets = self.pair.batch(seed, step)
        if self.noise:
            floats = {str(key): value for key, value in inputs.items() if value.dtype.kind == "f"}
            moved = perturbed(
                {key: value.astype(np.float64) for key, value in floats.items()}, seed + step, self.noise
            )
            inputs = {key: moved.get(str(key), value) for key, value in inputs.items()}
        return {key: self.tensor(value) for key, value in inputs.items()}, tuple(map(self.tensor, targets))

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """An array as torch takes it: floats in the precision of the side, integers as int64."""
        if array.dtype.kind == "f":
            return torch.as_tensor(np.ascontiguousarray(array)).to(device=self.device, dtype=self.dtype)
        if array.dtype.kind in "iu":
            return torch.as_tensor(array.astype(np.int64)).to(self.device)
        return torch.as_tensor(array).to(self.device)

    def call(self, module: torch.nn.Module, inputs: Mapping[Any, torch.Tensor]) -> Any:
        """``forward``, and of what it returns what the pair picks."""
        positional = [value for key, value in inputs.items() if isinstance(key, int)]
        keywords = {key: value for key, value in inputs.items() if isinstance(key, str)}
        made = module(*positional, **keywords)
        return self.pair.outputs[0](made) if self.pair.outputs else made

    def objective(self, made: Any, targets: tuple[torch.Tensor, ...], seed: int) -> torch.Tensor:
        """The loss, or without one a fixed random projection of the outputs."""
        if self.pair.loss:
            return self.pair.loss[0](made, *targets)
        floats = {name: value for name, value in outputs(made).items() if value.is_floating_point()}
        return sum(
            (value * self.tensor(projection(seed, place, value.shape))).sum()
            for place, value in enumerate(floats.values())
        )  # pyright: ignore[reportReturnType]

    def record(
        self, *, seed: int = 0, steps: int = 5, into: MutableMapping[str, np.ndarray] | None = None
    ) -> Recording:
        """Every phase, in order; ``into`` takes the tensors as they come, a dict by default."""
        facts: dict[str, Any] = {
            "side": "torch",
            "versions": {"torch": torch.__version__},
            "dtype": str(self.dtype).removeprefix("torch."),
            "seed": seed,
            "steps": steps,
            "warnings": [],
            "skipped": {},
        }
        tensors: MutableMapping[str, np.ndarray] = {} if into is None else into
        tensors.update(self._evaluate(seed, facts))
        self._differentiate(seed, facts, tensors)
        if self.pair.torch_optimizer and steps:
            tensors.update(self._train(seed, steps, facts))
        else:
            reason = (
                "no updates were asked for" if self.pair.torch_optimizer else "the pair has no torch_optimizer"
            )
            facts["skipped"] |= dict.fromkeys(("first_update", "optimizer_state", "updates", "resume"), reason)
        return Recording(tensors, facts)

    def _evaluate(self, seed: int, facts: dict[str, Any]) -> dict[str, np.ndarray]:
        module = self.fresh().eval()
        inputs, _ = self.batch(seed, 0)
        with torch.no_grad():
            made, again = (outputs(self.call(module, inputs)) for _ in range(2))
        if not made:
            raise PairError("the torch module returns no tensor; give outputs=(of_torch, of_flax)")
        for name, value in made.items():
            if not torch.equal(torch.nan_to_num(value), torch.nan_to_num(again[name])):
                raise PairError("the torch module is not deterministic: two evaluations of one batch differ")
        facts["outputs"] = {name: list(value.shape) for name, value in made.items()}
        facts["inputs"] = {str(key): list(value.shape) for key, value in inputs.items()}
        return {f"eval_forward/{name}": numpy(value) for name, value in made.items()}

    def _differentiate(self, seed: int, facts: dict[str, Any], tensors: MutableMapping[str, np.ndarray]) -> None:
        module = self.fresh().train()
        before = {name: numpy(value) for name, value in _buffers(module).items()}
        inputs, targets = self.batch(seed, 0)
        floats = {key: value.requires_grad_() for key, value in inputs.items() if value.is_floating_point()}
        before_call = torch.get_rng_state()
        with masks.in_torch(seed, 0) as calls:
            made = self.call(module, inputs)
        if not torch.equal(before_call, torch.get_rng_state()):
            raise PairError(
                "torch's forward draws random numbers in training that the port cannot share: only dropout "
                "of torch.nn.functional can (not that inside nn.LSTM or nn.GRU, nor torch.rand); set it to 0"
            )
        loss = self.objective(made, targets, seed)
        if loss.ndim:
            raise PairError(f"the torch loss has shape {tuple(loss.shape)}; expected a scalar")
        facts["dropout"] = calls
        tensors.update({f"train_forward/{name}": numpy(value) for name, value in outputs(made).items()})
        if self.pair.loss:
            tensors["loss/loss"] = numpy(loss)
        else:
            facts["skipped"]["loss"] = "the pair has no loss; gradients are those of a random projection"
        named = module.named_parameters(remove_duplicate=False)
        parameters = {name: value for name, value in named if name not in self.ties and value.requires_grad}
        del made
        with _taken(parameters if self.own else {}, tensors):
            loss.backward()
        tensors.update({f"input_gradients/{key}": _gradient(value) for key, value in floats.items()})
        if not floats:
            facts["skipped"]["input_gradients"] = "no input is a floating-point array"
        for name, value in parameters.items():
            if f"parameter_gradients/{name}" not in tensors:
                tensors[f"parameter_gradients/{name}"] = _gradient(value)
        after = _buffers(module)
        tensors.update({f"buffers/{name}": numpy(value) - before[name] for name, value in after.items()})
        if not after:
            facts["skipped"]["buffers"] = "the torch module has no floating-point buffers"

    def changes(self, *, seed: int = 0, steps: int = 5) -> dict[str, np.ndarray]:
        """Of all parameters since the start, after every update: ``step/key``, as in `record`."""
        run = _Run(self, self.fresh())
        start, found = run.parameters(), {}
        for step in range(steps):
            run.update(seed, step)
            now = run.parameters()
            found |= {f"{step + 1}/{name}": now[name] - start[name] for name in now if name not in self.hold}
        return found

    def _train(self, seed: int, steps: int, facts: dict[str, Any]) -> dict[str, np.ndarray]:
        run = _Run(self, self.fresh())
        start = run.parameters()
        tensors, losses, rates, saved = {}, [], [], None
        for step in range(steps):
            if step == steps // 2:
                saved = run.save()
            rates.append(run.rates())
            losses.append(run.update(seed, step))
            now = run.parameters()
            changed = {name: now[name] - start[name] for name in now if name not in self.hold}
            tensors |= {f"updates/{step + 1}/{name}": value for name, value in changed.items()}
            if step == 0:
                tensors |= {f"first_update/{name}": value for name, value in changed.items()}
                tensors |= {f"optimizer_state/{name}": value for name, value in run.slots().items()}
        tensors["updates/loss"] = np.asarray(losses)
        facts["rates"] = rates
        facts["clipped"] = run.clipped
        if saved is not None:
            again = _Run(self, self.fresh())
            again.load(saved)
            for step in range(steps // 2, steps):
                again.update(seed, step)
            now = again.parameters()
            tensors |= {f"resume/{name}": now[name] - start[name] for name in now if name not in self.hold}
        if not any(name.startswith("optimizer_state/") for name in tensors):
            facts["skipped"]["optimizer_state"] = "the torch optimizer keeps no tensors"
        return tensors


class _Run:
    """A training loop as the pair describes it, one update at a time."""

    def __init__(self, side: TorchSide, module: torch.nn.Module) -> None:
        pair = side.pair
        self.side, self.module, self.calls, self.clipped = side, module.train(), 0, None
        self.optimizer = pair.torch_optimizer(module)  # pyright: ignore[reportOptionalCall]
        self.scheduler = pair.torch_scheduler(self.optimizer) if pair.torch_scheduler else None

    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def parameters(self) -> dict[str, np.ndarray]:
        named = self.module.named_parameters(remove_duplicate=False)
        return {name: numpy(value) for name, value in named if name not in self.side.ties}

    def update(self, seed: int, step: int) -> float:
        side, pair = self.side, self.side.pair
        inputs, targets = side.batch(seed, step)
        if pair.zero_grad and self.calls % pair.accumulate == 0:
            self.optimizer.zero_grad()
        with masks.in_torch(seed, step):
            made = side.call(self.module, inputs)
        loss = side.objective(made, targets, seed)
        loss.backward()
        self.calls += 1
        if self.calls % pair.accumulate == 0:
            if pair.clip:
                before = _gradients(self.module)
                pair.clip(self.module)
                acted = any(not torch.equal(a, b) for a, b in zip(before, _gradients(self.module), strict=True))
                self.clipped = bool(self.clipped) or acted
            self.optimizer.step()
            if self.scheduler:
                self.scheduler.step()
        return float(loss.detach())

    def slots(self) -> dict[str, np.ndarray]:
        """``parameter.slot`` -> what the optimizer keeps of the parameter's own shape."""
        named = {id(value): name for name, value in self.module.named_parameters()}
        return {
            f"{named[id(parameter)]}.{slot}": numpy(value)
            for parameter, slots in self.optimizer.state.items()
            for slot, value in slots.items()
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim > 0
        }

    def save(self) -> dict[str, Any]:
        """What a torch user saves, and the gradients that a forgotten zero_grad carries over."""
        return copy.deepcopy(
            {
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "gradients": [parameter.grad for parameter in self.module.parameters()],
                "calls": self.calls,
            }
        )

    def load(self, saved: dict[str, Any]) -> None:
        """The inverse of `save`."""
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.calls = saved["calls"]
        for parameter, gradient in zip(self.module.parameters(), saved["gradients"], strict=True):
            parameter.grad = gradient
        if self.scheduler:
            self.scheduler.load_state_dict(saved["scheduler"])


def numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy as NumPy array, float64 unless it is no floating-point tensor."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy().copy()


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


def _gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def _hold(parameter: torch.nn.Parameter, start: int, stop: int) -> None:
    moves = torch.ones_like(parameter)
    moves[start:stop] = 0
    parameter.register_hook(lambda gradient: gradient * moves)


def _gradient(tensor: torch.Tensor) -> np.ndarray:
    return numpy(torch.zeros_like(tensor) if tensor.grad is None else tensor.grad)
