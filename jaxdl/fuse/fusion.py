"""The runs that are fused: their weights, what they say of the data, their units in one order."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdl import inference, teachers, tree
from jaxdl.data import sources, subset
from jaxdl.data.loader import stored_order
from jaxdl.engine import parallel, weights
from jaxdl.inference import Trained
from jaxdl.methods.fuse import align, averaging, ensemble
from jaxdl.typing import PyTree

REFRESH = 5000  # training images from which averaged weights get their running statistics


class Fusion:
    """Runs of one architecture and their data.

    Args:
      runs: their folders, two or more.
      data_dir: where the data lie now; None: where they lay.

    Raises:
      FileNotFoundError, ValueError: no run that has ended, no data; other architectures, inputs or classes.
    """

    def __init__(self, runs: Sequence[Path], data_dir: Path | None) -> None:
        self.runs = list(runs)
        trained = [inference.load(run) for run in runs]
        self.first = trained[0]
        for run, one in zip(runs, trained, strict=True):
            _check_same(self.first, one, f"{run} cannot be fused with {runs[0]}")
        self.members = [(one.state.params, one.state.stats) for one in trained]
        data = self.first.config.data
        self.source = sources.load(data.dataset or "mnist", data_dir or data.data_dir)
        teachers.check(self.first, self.source, runs[0])
        self.labels = np.asarray(self.source.test["label"])

    def said(self, members: Sequence[PyTree]) -> np.ndarray:
        """Probabilities (members, N, classes) of several ``(params, stats)`` for the test images."""
        params, stats = ensemble.stack(members)
        state = dataclasses.replace(self.first.state, params=params, stats=stats)
        parts = jax.device_get(self._run(state))
        return np.concatenate(
            [np.moveaxis(part, 1, 0).reshape(len(members), -1, part.shape[-1]) for part in parts], 1
        )

    @functools.cached_property
    def _run(self) -> Any:
        inputs, key = self.first.seen.inputs(), jax.random.key(0)
        run = ensemble.probabilities(
            nnx.graphdef(self.first.model), lambda images: inputs(key, {"image": images})["image"]
        )
        return parallel.evaluator(
            lambda state, batch: run(state.params, state.stats, batch["image"]),
            stored_order(self.source.test),
            parallel.make_mesh(parallel.first_devices(1)),
        )

    def refreshed(self, fused: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Averaged weights with the running statistics that belong to them."""
        params, stats = fused
        if not jax.tree.leaves(stats):
            return fused
        rows = np.arange(min(REFRESH, len(self.source.train["label"])))
        loader = stored_order(subset.take(self.source.train, rows))
        prepare = functools.partial(self.first.seen.inputs(), jax.random.key(0))
        return params, averaging.update_bn(self.first.model, params, stats, loader, prepare)

    @functools.cached_property
    def chain(self) -> list[str]:
        """See `chain_of`."""
        return chain_of(self.first.config.model.model, self.first.state.params)

    def aligned(self, members: Sequence[tuple[PyTree, PyTree]], seed: int) -> list[tuple[PyTree, PyTree]]:
        """Members with their units in one order."""
        model = self.first.model
        there = [
            weights.to_torch(model, {name: np.asarray(leaf) for name, leaf in tree.flatten(params).items()})
            for params, _ in members
        ]
        back = [weights.from_torch(model, one) for one in align.merge(there, self.chain, seed)]
        return [
            (tree.map_named(lambda name, _, own=own: own[name], params), stats)
            for own, (params, stats) in zip(back, members, strict=True)
        ]


def chain_of(model: str, params: PyTree) -> list[str]:
    """The layers whose units can be put in another order, and behind them the last; empty where it is no chain."""
    pattern = align.CHAINS.get(model)
    names = {name.removesuffix(".weight") for name in tree.flatten(params)}
    found = [name for name in names if pattern and re.fullmatch(pattern, name)]
    return sorted(found, key=lambda name: (name.startswith("fc"), int(re.sub(r"\D", "", name))))


def _check_same(first: Trained, other: Trained, prefix: str) -> None:
    """Raises ValueError unless the weights of both are of one function of one kind of images."""
    for what in (first.config.model, other.config.model), (first.seen, other.seen):
        for field in dataclasses.fields(what[0]):
            own, theirs = (getattr(one, field.name) for one in what)
            if own != theirs and field.name != "dropout":  # which ends with training
                raise ValueError(f"{prefix}: {field.name} is {_short(theirs)} there and {_short(own)} here")


def _short(value: Any) -> str:
    return f"{len(value)} names" if isinstance(value, tuple) and len(value) > 4 else str(value)
