"""The cache of compiled programs: per user, private, on by default."""

import os
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs under the user's cache folder, unless JAX is told of a place of its own.

    A compiled program is code that will be run, so a folder that another user could write to is not used.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = root / "jaxdl" / "programs"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return
    except OSError:  # a home that cannot be written to: compile anew each time
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
