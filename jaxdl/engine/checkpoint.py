"""Checkpoints to resume from: written in the background, atomic, verified on reading."""

import contextlib
import errno
import functools
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl import tree
from jaxdl.engine import parallel
from jaxdl.engine.state import TrainState
from jaxdl.typing import Array, PyTree

OVERHEAD = 2**18  # bytes that a checkpoint takes beside its arrays, generously


class Checkpoints:
    """The checkpoints of one run: the last ``keep`` and the best.

    Orbax writes each into a folder of another name and renames it when it is complete, so a process that is killed
    leaves whole checkpoints only. The digest of every array is stored with it and compared on reading: a damaged
    checkpoint is noticed and the one before it is used.

    Args:
      folder: where they lie; created when needed.
      keep: how many of the latest to keep beside the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder.resolve(), keep

    @functools.cached_property
    def _manager(self) -> Any:
        # Orbax takes a second to import, and the first step does not need it.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as policy

        # What goes wrong in its threads is raised by `save` and `close`; it need not print tracebacks as well.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        best = policy.BestN(get_metric_fn=lambda metrics: metrics["score"], n=1)
        return ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy([policy.LatestN(self._keep), best]),
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, state: TrainState, notes: dict[str, Any], score: float) -> None:
        """Copies the state to the host and returns; the files are written while training goes on.

        Args:
          state: what `restore` shall give back; its arrays may be donated once this returns.
          notes: JSON values to keep with it.
          score: the checkpoint with the largest is the best.

        Raises:
          OSError: this checkpoint or the one before it could not be written.
        """
        from orbax.checkpoint import args

        arrays = _arrays(state)
        described = {"leaves": {name: _describe(array) for name, array in arrays.items()}, "notes": notes}
        self._check_space(sum(array.nbytes for array in arrays.values()))
        content = args.Composite(state=args.StandardSave(arrays), notes=args.JsonSave(described))
        with _written():
            self._manager.save(int(state.step), args=content, metrics={"score": score})

    def restore(self, like: TrainState, warn: Callable[[str], None]) -> tuple[TrainState, dict[str, Any]] | None:
        """The latest checkpoint that is whole, and its notes; None where there is none at all.

        Args:
          like: a state of the same structure, shapes and types, whose placement on devices is used.
          warn: is told of every checkpoint that had to be passed over.

        Raises:
          ValueError: the checkpoint is of another model or optimizer (with what differs), or all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self._read(step, like)
            except _DamagedError as damage:
                warn(f"checkpoint {step} is damaged ({damage}) and is passed over")
        if steps:
            raise ValueError(f"none of the checkpoints {steps} could be read; the run has to start anew")
        return None

    def read(self, step: int, like: TrainState) -> TrainState:
        """The state that was saved after ``step`` steps; waits until it is written.

        Raises:
          ValueError: it is not there, of another model, or damaged.
        """
        self.wait()
        try:
            return self._read(step, like)[0]
        except _DamagedError as damage:
            raise ValueError(f"checkpoint {step} is damaged ({damage})") from damage

    def wait(self) -> None:
        """Returns when everything is written.

        Raises:
          OSError: it could not be.
        """
        with _written():
            self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in order."""
        return sorted(self._manager.all_steps()) if self._folder.is_dir() else []

    def close(self) -> None:
        """Waits until everything is written.

        Raises:
          OSError: it could not be.
        """
        if "_manager" in vars(self):
            with _written():
                self._manager.wait_until_finished()
                self._manager.close()

    def _check_space(self, size: int) -> None:
        """Asked beforehand, because a full disk leaves Orbax's threads in disorder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(self._folder).free, 2 * size + OVERHEAD
        if free < needed:
            raise OSError(
                errno.ENOSPC, f"a checkpoint needs up to {needed // 1000} kB, {free // 1000} kB are free"
            )

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        saved = self._read_notes(step)
        _check_structure(saved["leaves"], _arrays(like))
        return self._read_state(step, like, saved["leaves"]), saved["notes"]

    def _read_notes(self, step: int) -> dict[str, Any]:
        from orbax.checkpoint import args

        try:
            return self._manager.restore(step, args=args.Composite(notes=args.JsonRestore()))["notes"]
        except Exception as error:  # whatever Orbax meets in a damaged folder
            raise _DamagedError(f"its notes cannot be read: {type(error).__name__}") from error

    def _read_state(self, step: int, like: TrainState, leaves: dict[str, list[Any]]) -> TrainState:
        from orbax.checkpoint import args

        wanted = {
            name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
            for name, array in _arrays(like).items()
        }
        try:
            arrays = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(wanted)))
        except Exception as error:  # whatever Orbax and TensorStore meet in damaged files
            raise _DamagedError(f"its arrays cannot be read: {type(error).__name__}") from error
        changed = [name for name, array in arrays["state"].items() if _describe(array) != leaves[name]]
        if changed:
            raise _DamagedError(f"other content than was written: {', '.join(changed)}")
        return _rebuild(like, arrays["state"])


@contextlib.contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Orbax and TensorStore raise many types for a disk that takes no more
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(f"a checkpoint could not be written: {reason[:200]}") from error


class _DamagedError(Exception):
    """A checkpoint that is not what was written."""


def _arrays(state: TrainState) -> dict[str, Array]:
    """The leaves by name, the random key as the plain array that is under it."""
    return {
        name: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for name, leaf in tree.flatten(state).items()
    }


def _rebuild(like: TrainState, arrays: dict[str, Array]) -> TrainState:
    def leaf(name: str, old: Array) -> PyTree:
        is_key = jnp.issubdtype(old.dtype, jax.dtypes.prng_key)
        return jax.random.wrap_key_data(arrays[name], impl=jax.random.key_impl(old)) if is_key else arrays[name]

    return tree.map_named(leaf, like)


def _describe(array: Array) -> list[Any]:
    host = parallel.to_host(array)
    return [list(host.shape), str(host.dtype), hashlib.sha256(host.tobytes()).hexdigest()]


def _check_structure(saved: dict[str, list[Any]], arrays: dict[str, Array]) -> None:
    wanted = {name: [list(array.shape), str(array.dtype)] for name, array in arrays.items()}
    differences = [f"{name} is only in the checkpoint" for name in saved if name not in wanted]
    differences += [f"{name} is not in the checkpoint" for name in wanted if name not in saved]
    differences += [
        f"{name} has shape {saved[name][0]} {saved[name][1]} in the checkpoint and {shape} {dtype} here"
        for name, (shape, dtype) in wanted.items()
        if name in saved and saved[name][:2] != [shape, dtype]
    ]
    if differences:
        raise ValueError(f"the checkpoint is of another model or optimizer: {'; '.join(differences)}")
