"""The wire between processes; threads stand in for them."""

import contextlib
import queue
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxdl.engine import group
from jaxdl.engine.cluster import Seat
from jaxdl.engine.group import Group


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def stopped(monkeypatch):
    """What would end the process."""
    reasons = queue.Queue()
    monkeypatch.setattr(group, "stop", lambda reason: reasons.put(reason))
    return reasons


@pytest.fixture
def meet(stopped):  # noqa: ARG001 - a thread that outlives a test must not end the tests
    pool, futures = ThreadPoolExecutor(4), []

    def start(processes, seats=None, timeout=60.0):
        port = free_port()
        seats = seats or [Seat("127.0.0.1", port, number, processes) for number in range(processes)]
        futures.extend(started := [pool.submit(Group, seat, timeout) for seat in seats])
        return started

    yield start
    for link in (link for f in futures if not f.exception() for link in f.result()._links.values()):
        link.left.set()
        link._wire.close()
    pool.shutdown()


def call(port):
    """Waits until somebody listens there."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port))


def everywhere(groups, do):
    with ThreadPoolExecutor(len(groups)) as pool:
        return list(pool.map(do, groups))


def test_values_come_in_the_order_of_the_processes(meet):
    groups = [future.result() for future in meet(3)]
    assert [g.is_first for g in groups] == [True, False, False]
    for k in range(2):
        expected = [{"of": number, "k": k} for number in range(3)]
        assert everywhere(groups, lambda g, k=k: g.exchange({"of": g.seat.process, "k": k})) == [expected] * 3
    assert everywhere(groups, lambda g: g.leave(0)) == [True] * 3


def test_one_that_is_gone_stops_all_others(meet, stopped):
    groups = [future.result() for future in meet(3)]
    groups[2]._links[0]._wire.shutdown(socket.SHUT_RDWR)
    told = {stopped.get(timeout=60) for _ in range(3)}
    assert told >= {f"process 2 has ended, so this one (process {number}) stops too" for number in (0, 1)}


def test_one_that_is_silent_counts_as_gone(meet, stopped, monkeypatch):
    monkeypatch.setattr(group, "SILENCE", 0.3)
    monkeypatch.setattr(group, "BEAT", 60)
    meet(2)
    assert "has not been heard of for 0.3 seconds" in stopped.get(timeout=60)


def test_one_that_speaks_now_and_then_is_not_gone(meet, stopped, monkeypatch):
    monkeypatch.setattr(group, "SILENCE", 2.0)
    monkeypatch.setattr(group, "BEAT", 0.1)
    groups = [future.result() for future in meet(2)]
    time.sleep(2.5)
    assert stopped.empty()
    everywhere(groups, lambda g: g.leave(0))


def test_a_failure_of_one_ends_the_others_after_a_while(meet, stopped, monkeypatch):
    monkeypatch.setattr(group, "GRACE", 0.3)
    groups = [future.result() for future in meet(2)]
    assert groups[1].leave(2) is False
    told = {stopped.get(timeout=60) for _ in range(2)}
    assert "process 1 has stopped with status 2, so this one (process 0) stops too" in told


def test_nobody_there():
    with pytest.raises(
        ValueError, match=r"nobody answers at --coordinator 127.0.0.1:\d+ \(.*\); waited 0.3 seconds"
    ):
        Group(Seat("127.0.0.1", free_port(), 1, 2), 0.3)


def test_those_who_do_not_come_are_named():
    with pytest.raises(ValueError, match=r"waited 0.3 seconds at 127.0.0.1:\d+ for process 1, 2$"):
        Group(Seat("127.0.0.1", free_port(), 0, 3), 0.3)


def test_a_port_in_use():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"cannot listen on port {port} of --coordinator \(Address already in"
        ):
            Group(Seat("127.0.0.1", port, 0, 2), 0.3)


def test_somebody_else_answers(monkeypatch):
    monkeypatch.setattr(group, "ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ValueError, match=f"what answers at --coordinator 127.0.0.1:{port} is not process 0"):
            Group(Seat("127.0.0.1", port, 1, 2), 0.3)


@pytest.mark.parametrize(("process", "processes"), [(1, 3), (5, 2)])
def test_processes_that_do_not_fit(meet, process, processes):
    port = free_port()
    for future in meet(2, [Seat("127.0.0.1", port, 0, 2), Seat("127.0.0.1", port, process, processes)]):
        with pytest.raises(
            ValueError, match=f"expected processes 1 to 1 of 2, once each; got process {process} of"
        ):
            future.result()


def test_a_stranger_is_sent_away(meet):
    port = free_port()
    first, *_ = meet(2, [Seat("127.0.0.1", port, 0, 2)])
    for said in (b"GET / HTTP/1.1\n", b"[1]\n", b""):
        with call(port) as stranger:
            stranger.sendall(said)
    second, *_ = meet(2, [Seat("127.0.0.1", port, 1, 2)])
    assert everywhere([first.result(), second.result()], lambda g: g.exchange(g.seat.process)) == [[0, 1]] * 2
