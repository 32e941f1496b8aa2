"""Several processes that train one model together; with one, everything here does nothing.

`start` joins them, `jax.distributed` among other things; from then on `jax.devices()` are those of all.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxdl.config import ScaleOptions
from jaxdl.engine.cluster import find_seat, own_devices
from jaxdl.engine.group import Group

SETTLE = 1.0  # seconds until it is known whose failure an error comes from
OWN = {"process_id", "coordinator", "quiet"}  # options that may differ between processes

_group: Group | None = None  # as jax.distributed, there is one in a process


def start(options: ScaleOptions, everything: Mapping[str, Any]) -> None:
    """Joins the other processes, where the options or a launcher speak of any; before JAX touches a device.

    Args:
      options: theirs.
      everything: the options of the run by name, which have to be the same everywhere.

    Raises:
      ValueError: they did not meet, or differ in options; all of them raise it.
    """
    global _group
    seat = find_seat(options)
    if seat is None:
        return
    import jax

    _group = Group(seat, options.start_timeout)
    agree("options", {name: value for name, value in everything.items() if name not in OWN})
    agree("versions", {"jax": jax.__version__})
    port = from_first(_free_port)
    jax.distributed.initialize(
        f"{seat.host}:{port}",
        seat.processes,
        seat.process,
        local_device_ids=own_devices(seat, options.devices),
        cluster_detection_method="deactivate",
        initialization_timeout=int(options.start_timeout),
    )
    # It has taken SIGTERM for itself.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return _group is None or _group.is_first


def several() -> bool:
    """Whether there are others."""
    return _group is not None


def from_first(make: Callable[[], Any]) -> Any:
    """The JSON value that ``make`` gives in the first process, in all of them; it is called there only.

    Raises:
      ValueError: ``make`` raised it, or an OSError; all raise it.
    """
    if _group is None:
        return make()
    result = {}
    if _group.is_first:
        try:
            result = {"value": make()}
        except (ValueError, OSError) as error:
            result = {"error": str(error)}
    result = _group.exchange(result)[0]
    if "error" in result:
        raise ValueError(result["error"])
    return result["value"]


def agree(what: str, values: Mapping[str, Any]) -> None:
    """Makes sure that values by name are the same in all processes.

    Raises:
      ValueError: they are not, with every one that differs; all raise it.
    """
    everybody = _group.exchange(dict(values)) if _group else []
    for process, others in enumerate(everybody):
        first = everybody[0]
        differing = [name for name in first | others if first.get(name) != others.get(name)]
        if differing:
            both = "; ".join(f"{name} {first.get(name)} and {others.get(name)}" for name in differing)
            raise ValueError(f"processes 0 and {process} must have the same {what}; got {both}")


def decide(due: bool, received: int | None) -> tuple[bool, int | None]:
    """What all processes do next: whether the first, whose clock counts, finds something due; a signal to any."""
    if _group is None:
        return due, received
    everybody = _group.exchange([due, received])
    return everybody[0][0], next((number for _, number in everybody if number is not None), None)


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Holds an error back for a moment: if another process is gone, that is told instead, and this one ended."""
    try:
        yield
    except BaseException:
        if _group is not None:
            time.sleep(SETTLE)
        raise


def leave(status: int) -> int:
    """Ends the process with an exit status. After a failure it does not return: JAX would wait for the others."""
    if _group is None:
        return status
    import jax

    if _group.leave(status):
        jax.distributed.shutdown()
        return status
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _group.wait_until_closed()
    os._exit(status or 1)


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]
