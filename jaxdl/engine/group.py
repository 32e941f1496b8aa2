"""The processes of one run on the wire: they meet, exchange what they have to agree on, and notice who is gone.

Nothing here imports jax: what can go wrong with addresses, ports and processes is told in one line before JAX gets
to it, which would end the process.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from typing import Any

from jaxdl.engine.cluster import Seat

SILENCE = 30.0  # seconds without a word, after which a process counts as gone
BEAT = 2.0  # seconds between two words
ANSWER = 10.0  # seconds in which the first process has to answer a call
GRACE = 5.0  # seconds for the others to end by themselves when one has stopped
RETRY = 0.2


class Group:
    """All processes of a run, joined by a line each between the first and every other.

    Args:
      seat: the place of this one.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: they did not meet, with the reason. All that did come raise it.
    """

    def __init__(self, seat: Seat, timeout: float) -> None:
        self.seat = seat
        self._ending = threading.Lock()
        sockets = _receive_all(seat, timeout) if seat.process == 0 else {0: _call(seat, timeout)}
        self._links = {number: _Link(number, wire, self._lost) for number, wire in sorted(sockets.items())}
        for work in [*(link.read for link in self._links.values()), self._beat]:
            threading.Thread(target=work, daemon=True).start()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.seat.process == 0

    def exchange(self, value: Any) -> list[Any]:
        """The JSON value of every process, in their order; all of them have to call it."""
        if not self.is_first:
            self._links[0].send({"value": value})
            return self._links[0].values.get()
        values = [value, *(link.values.get() for link in self._links.values())]
        for link in self._links.values():
            link.send({"value": values})
        return values

    def leave(self, status: int) -> bool:
        """Says goodbye with an exit status and waits for the others: whether all left with status 0.

        As long as they live if it is 0, otherwise for GRACE seconds.
        """
        for link in self._links.values():
            link.send({"leave": status})
        limit = None if status == 0 else GRACE
        left = [link.left.wait(limit) and link.status == 0 for link in self._links.values()]
        return status == 0 and all(left)

    def wait_until_closed(self) -> None:
        """The first process is the last to end: JAX in the others takes its end for a failure."""
        for link in self._links.values() if self.is_first else ():
            link.closed.wait(GRACE)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            for link in self._links.values():
                link.send({})

    def _lost(self, number: int, reason: str) -> None:
        """Ends this process, because another one is gone; called by the thread that found out."""
        with self._ending:
            for link in self._links.values() if self.is_first else ():
                link.send({"stop": [number, reason]})
            stop(f"process {number} {reason}, so this one (process {self.seat.process}) stops too")


class _Link:
    """One end of a line: JSON objects, one a line."""

    def __init__(self, number: int, wire: socket.socket, lost: Any) -> None:
        self.number, self._wire, self._lost = number, wire, lost
        self._sending = threading.Lock()
        self.values: queue.Queue[Any] = queue.Queue()
        self.left, self.closed, self.status = threading.Event(), threading.Event(), 0

    def send(self, message: dict[str, Any]) -> None:
        with self._sending, contextlib.suppress(OSError):  # who reads finds out
            self._wire.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> None:
        self._wire.settimeout(SILENCE)
        reason = "has ended"
        try:
            for line in self._wire.makefile("rb"):
                self._take(json.loads(line))
        except TimeoutError:
            reason = f"has not been heard of for {SILENCE:g} seconds"
        except (OSError, ValueError):
            pass
        self.closed.set()
        if not self.left.is_set():
            self._lost(self.number, reason)

    def _take(self, message: dict[str, Any]) -> None:
        if "value" in message:
            self.values.put(message["value"])
        elif "stop" in message:
            self._lost(*message["stop"])
        elif "leave" in message:
            self.status = message["leave"]
            self.left.set()
            if self.status:  # the others end for the same reason, or have to be ended
                reason = f"has stopped with status {self.status}"
                timer = threading.Timer(GRACE, self._lost, [self.number, reason])
                timer.daemon = True
                timer.start()


def stop(reason: str, status: int = 1) -> None:
    """Ends the process here and now, from any thread: what it waits for will not come."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        print(f"error: {reason}; go on with --resume", file=sys.stderr, flush=True)
    os._exit(status)


def _receive_all(seat: Seat, timeout: float) -> dict[int, socket.socket]:
    """Waits for the other processes, on the side of the first."""
    deadline, came = time.monotonic() + timeout, {}
    try:
        with _listen(seat) as server:
            while len(came) < seat.processes - 1:
                server.settimeout(max(deadline - time.monotonic(), 0.01))
                wire, _ = server.accept()
                _admit(seat, wire, came)
        for wire in came.values():
            _say(wire, {"met": True})
        return came
    except TimeoutError:
        away = [str(number) for number in range(1, seat.processes) if number not in came]
        problem = f"waited {timeout:g} seconds at {seat.host}:{seat.port} for process {', '.join(away)}"
    except ValueError as error:
        problem = str(error)
    for wire in came.values():
        _say(wire, {"problem": problem})
        wire.close()
    raise ValueError(problem)


def _listen(seat: Seat) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if dual else socket.AF_INET
        return socket.create_server(("", seat.port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ValueError(
            f"cannot listen on port {seat.port} of --coordinator ({reason}); choose another"
        ) from error


def _admit(seat: Seat, wire: socket.socket, came: dict[int, socket.socket]) -> None:
    """Takes a call. One that does not come from a process of a run is cut off and forgotten."""
    try:
        hello = _hear(wire, ANSWER)
        process, processes = hello["process"], hello["processes"]
    except (OSError, ValueError, KeyError, TypeError):
        wire.close()
        return
    if processes != seat.processes or process in came or not 0 < process < seat.processes:
        problem = f"expected processes 1 to {seat.processes - 1} of {seat.processes}, once each; "
        problem += f"got process {process} of {processes}" + (" again" if process in came else "")
        _say(wire, {"problem": problem})
        wire.close()
        raise ValueError(problem)
    _say(wire, {"hello": True})
    came[process] = wire


def _call(seat: Seat, timeout: float) -> socket.socket:
    """Calls the first process until it answers, and waits until all have come."""
    deadline, where = time.monotonic() + timeout, f"{seat.host}:{seat.port}"
    while True:
        try:
            wire = socket.create_connection((seat.host, seat.port), max(deadline - time.monotonic(), 0.01))
            break
        except OSError as error:
            if time.monotonic() + RETRY > deadline:
                reason = error.strerror or str(error)
                raise ValueError(
                    f"nobody answers at --coordinator {where} ({reason}); waited {timeout:g} seconds"
                ) from error
            time.sleep(RETRY)
    try:
        _say(wire, {"process": seat.process, "processes": seat.processes})
        answer = _hear(wire, ANSWER)
        answer = answer if "problem" in answer else _hear(wire, timeout + ANSWER)
    except (OSError, ValueError) as error:
        wire.close()
        raise ValueError(f"what answers at --coordinator {where} is not process 0 of this run") from error
    if "problem" in answer:
        wire.close()
        raise ValueError(answer["problem"])
    return wire


def _say(wire: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        wire.sendall(json.dumps(message).encode() + b"\n")


def _hear(wire: socket.socket, timeout: float) -> dict[str, Any]:
    """One line, a byte at a time: what follows belongs to the reader of the link."""
    wire.settimeout(timeout)
    line = b""
    while not line.endswith(b"\n"):
        byte = wire.recv(1)
        if not byte or len(line) > 4096:
            raise ValueError("no line")
        line += byte
    heard = json.loads(line)
    if not isinstance(heard, dict):
        raise ValueError("no object")
    return heard
