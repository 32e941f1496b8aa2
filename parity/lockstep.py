"""Whole training runs side by side: the same weights, the same batches, thousands of updates, both accuracies.

In float64 the two losses are compared step by step. In float32 rounding grows with every update, in torch as well:
the port has to stay within the envelope of torch runs whose weights start half a unit in the last place apart.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxdl import tree
from jaxdl.data import sources
from jaxdl.data.loader import Loader
from parity import torch_side
from parity.flax_side import FlaxSide
from parity.measure import FACTOR, RUNS
from parity.pair import Pair, PairError
from parity.prove import Subject, precise, prepare
from parity.torch_side import TorchSide
from parity.verdict import relative


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: the loss of every step, the parameters at the end of every epoch, the test accuracy."""

    losses: np.ndarray
    parameters: tuple[np.ndarray, ...]
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Lockstep:
    """Runs of both sides in one precision, and the truth they are measured against.

    Attributes:
      dtype: they computed in.
      truth: torch in float64.
      torch: runs whose initial weights differ by half a unit in the last place; one in float64.
      port: the port's run.
    """

    dtype: str
    truth: Run
    torch: tuple[Run, ...]
    port: Run

    @property
    def deviation(self) -> np.ndarray:
        """(steps,) relative deviation of the port's loss from the truth."""
        return np.abs(self.port.losses - self.truth.losses) / np.abs(self.truth.losses)

    @property
    def ratios(self) -> list[float]:
        """For each epoch how many times torch's largest error the port's parameters are off."""
        found = []
        for epoch, truth in enumerate(self.truth.parameters):
            floor = max(relative(run.parameters[epoch], truth) for run in self.torch)
            found.append(relative(self.port.parameters[epoch], truth) / floor if floor else 0.0)
        return found

    def text(self) -> str:
        """The result for people: the deviation of the losses, the envelope, both accuracies."""
        verdict = "PASS" if self.inside else "FAIL"
        words = (
            "losses within 1e-9"
            if self.dtype == "float64"
            else f"parameters within {FACTOR:g} times torch's error"
        )
        lines = [
            f"{self.dtype}: {verdict}, {words}",
            f"  steps {len(self.deviation)}, largest relative deviation of the loss {self.deviation.max():.1e}, "
            f"at the end {self.deviation[-1]:.1e}",
            f"  test accuracy: torch {self.torch[0].accuracy:.2%}, port {self.port.accuracy:.2%}",
        ]
        if self.dtype != "float64":
            ratios = ", ".join(f"{ratio:.2f}" for ratio in self.ratios)
            lines.insert(
                2, f"  error of the parameters over the largest of {len(self.torch)} torch runs: {ratios}"
            )
        return "\n".join(lines)

    @property
    def inside(self) -> bool:
        """float64: the losses never differ by more than 1e-9. float32: the parameters stay in the envelope."""
        return bool(self.deviation.max() < 1e-9) if self.dtype == "float64" else max(self.ratios) <= FACTOR


def lockstep(
    pair: Pair,
    data_dir: Path | None,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    seed: int = 0,
    examples: int | None = None,
) -> Iterator[Lockstep]:
    """Trains both sides on MNIST, in float64 and then in float32.

    Args:
      pair: of an image classifier with a loss, an optimizer and no dropout.
      data_dir: where MNIST is, see `jaxdl.data.sources.load`.
      epochs, batch_size, seed: of the run; the order of examples is jaxdl's.
      examples: how many of the training and of the test images, to try it out.

    Raises:
      PairError: the pair lacks what training needs.
      FileNotFoundError: MNIST is not at hand.
    """
    if pair.loss is None or pair.torch_optimizer is None or pair.tx is None:
        raise PairError("a lockstep run needs a pair with loss, torch_optimizer and tx")
    source = sources.load("mnist", data_dir)
    train, test = ({k: np.asarray(v)[:examples] for k, v in part.items()} for part in (source.train, source.test))
    loader = Loader(train, batch_size, seed=seed)
    orders = [np.asarray(loader.order(epoch)) for epoch in range(epochs)]
    with precise():
        subject = prepare(pair, seed=seed)
    weights = {name: value.astype(np.float32).astype(np.float64) for name, value in subject.weights.items()}
    data = _Data(train, test, orders, batch_size)
    with precise():
        truth = _torch_run(subject, weights, data, torch.float64)
        port = _port_run(subject, weights, data, jnp.float64)
    yield Lockstep("float64", truth, (truth,), port)
    runs = []
    for run in range(RUNS):
        moved = torch_side.perturbed(weights, seed + run, torch.finfo(torch.float32).eps / 2) if run else weights
        runs.append(_torch_run(subject, moved, data, torch.float32))
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        port = _port_run(subject, weights, data, jnp.float32)
    yield Lockstep("float32", truth, tuple(runs), port)


@dataclasses.dataclass(frozen=True)
class _Data:
    """uint8 images (N, H, W, C) and labels, and the order of every epoch."""

    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    orders: list[np.ndarray]
    batch_size: int

    def batches(self, order: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(B, C, H, W) in [0, 1], float64, and labels."""
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield images(self.train["image"][rows]), self.train["label"][rows]


def images(pixels: np.ndarray) -> np.ndarray:
    """torchvision's ToTensor: (B, H, W, C) uint8 to (B, C, H, W) in [0, 1]."""
    return (pixels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2).astype(np.float64)


def _torch_run(subject: Subject, weights: Mapping[str, np.ndarray], data: _Data, dtype: torch.dtype) -> Run:
    side = TorchSide(subject.pair, subject.module, weights, dtype=dtype)
    module = side.fresh().train()
    optimizer = subject.pair.torch_optimizer(module)  # pyright: ignore[reportOptionalCall]
    loss_of = subject.pair.loss[0]  # pyright: ignore[reportOptionalSubscript]
    losses, snapshots = [], []
    for order in data.orders:
        for x, y in data.batches(order):
            optimizer.zero_grad()
            loss = loss_of(side.call(module, {0: side.tensor(x)}), side.tensor(y))
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        snapshots.append(_flat({name: torch_side.numpy(p) for name, p in module.named_parameters()}))
    module.eval()
    with torch.no_grad():
        right = sum(
            int((side.call(module, {0: side.tensor(images(x))}).argmax(-1).cpu().numpy() == y).sum())
            for x, y in _thousands(data.test)
        )
    return Run(np.asarray(losses), tuple(snapshots), right / len(data.test["label"]))


def _port_run(subject: Subject, weights: Mapping[str, np.ndarray], data: _Data, dtype: Any) -> Run:
    pair, bridge = subject.pair, subject.bridge
    side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0], dtype=dtype)
    side.load(bridge.to_flax(weights))
    loss_of, tx = pair.loss[1], pair.tx  # pyright: ignore[reportOptionalSubscript]

    @jax.jit
    def step(params: Any, stats: Any, opt_state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            made, after, _ = side.forward(params, stats, {0: x}, True, [])
            return loss_of(made, y), after

        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), after, opt_state, value

    @jax.jit
    def predict(params: Any, stats: Any, x: Any) -> Any:
        return side.forward(params, stats, {0: x}, False)[0].argmax(-1)

    state = (side.model.params, side.model.stats, tx.init(side.model.params))
    losses, snapshots = [], []
    for order in data.orders:
        values = []
        for x, y in data.batches(order):
            *state, value = step(*state, side.array(x), side.array(y))
            values.append(value)
        losses += [float(value) for value in jax.device_get(values)]
        named = bridge.to_torch({name: np.asarray(v, np.float64) for name, v in tree.flatten(state[0]).items()})
        snapshots.append(_flat(named))
    right = sum(
        int((np.asarray(predict(state[0], state[1], side.array(images(x)))) == y).sum())
        for x, y in _thousands(data.test)
    )
    return Run(np.asarray(losses), tuple(snapshots), right / len(data.test["label"]))


def _thousands(part: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(part["label"]), 1000):
        yield part["image"][start : start + 1000], part["label"][start : start + 1000]


def _flat(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(values[name]) for name in sorted(values)])
