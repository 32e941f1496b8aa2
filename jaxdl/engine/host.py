"""How a command sets up its process: compiled programs are cached, and programs keep the memory they free."""

import os
from typing import Any

import jax

from jaxdl import files
from jaxdl.engine.memory import keep_freed_memory, return_freed_memory

COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's event, of a program out of the cache as well
LONG = 0.1  # seconds of a compilation that leaves much behind


def set_up() -> None:
    """What every command does before its first program."""
    enable_compilation_cache()
    keep_freed_memory()
    jax.monitoring.register_event_duration_secs_listener(_return_what_compilation_freed)


def enable_compilation_cache() -> None:
    """Keeps compiled programs under the user's cache folder, unless JAX is told of a place of its own.

    A compiled program is code that will be run, so it lies where only this user can write. Into how many parts XLA
    divides an operation is decided with it, by the cores that the process may use, of which JAX's own key of a
    program knows nothing: so each number of cores has a folder. A CNN compiled by a process that was bound to one
    core ran at 37 ms a step on two, where it takes 27.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        path = files.make_cache() / "programs" / f"cores-{len(os.sched_getaffinity(0))}"
        path.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written to: compile anew each time
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _return_what_compilation_freed(event: str, duration_secs: float, **_: Any) -> None:
    # No program takes it again: of a ResNet-18 it is 300 MB.
    if event == COMPILED and duration_secs > LONG:
        return_freed_memory()
