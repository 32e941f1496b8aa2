"""Who tells a process which of several it is."""

import pytest

from jaxdl.config import ScaleOptions
from jaxdl.engine import cluster
from jaxdl.engine.cluster import Seat, find_seat, own_devices

SLURM = {
    "SLURM_JOB_ID": "4099",
    "SLURM_STEP_NODELIST": "node[007-010,12],other",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
URI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}


def test_a_process_by_itself_has_no_seat():
    assert find_seat(ScaleOptions(), {"PATH": "/bin"}) is None
    assert find_seat(ScaleOptions(), SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_by_hand():
    options = ScaleOptions(coordinator="10.0.0.1:1234", process_id=1, num_processes=3)
    assert find_seat(options, {}) == Seat("10.0.0.1", 1234, 1, 3)
    assert find_seat(options, SLURM) == Seat("10.0.0.1", 1234, 1, 3, local=1)  # what is given by hand counts


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node[007-010,12],other", "node007"), ("node[3,5]", "node3"), ("a1,b[2-3]", "a1"), ("10.0.0.7", "10.0.0.7")],
)
def test_slurm(nodes, first):
    seat = find_seat(ScaleOptions(), SLURM | {"SLURM_STEP_NODELIST": nodes})
    assert seat == Seat(first, 61440 + 4099 % 4096, 5, 8, local=1)


def test_mpi():
    seat = find_seat(ScaleOptions(), OPEN_MPI | URI)
    assert seat is not None
    assert (seat.host, seat.process, seat.processes, seat.local) == ("10.96.0.1", 3, 4, 1)
    others = [find_seat(ScaleOptions(), OPEN_MPI | URI | {"OMPI_COMM_WORLD_RANK": rank}) for rank in "012"]
    assert {other.port for other in others} == {seat.port}
    assert find_seat(ScaleOptions(), MPICH) == Seat("127.0.0.1", 29500, 0, 2, local=0)
    by_hand = ScaleOptions(coordinator="head:29501")  # Open MPI 5 does not tell where it was started
    assert find_seat(by_hand, OPEN_MPI) == Seat("head", 29501, 3, 4, local=1)


def test_kubernetes(monkeypatch):
    monkeypatch.setattr(cluster.socket, "getfqdn", lambda: "digits-2.digits.default.svc.cluster.local")
    pod = {"JOB_COMPLETION_INDEX": "2"}
    seat = find_seat(ScaleOptions(num_processes=4), pod)
    assert seat == Seat("digits-0.digits.default.svc.cluster.local", 29500, 2, 4)
    assert find_seat(ScaleOptions(), pod) is None


@pytest.mark.parametrize(
    ("options", "environ", "message"),
    [
        ({"coordinator": "a:1"}, {}, "needs --process-id, --num-processes as well; got --coordinator a:1"),
        ({}, OPEN_MPI, "needs --coordinator as well; got --process-id 3, --num-processes 4"),
        ({"coordinator": "a:1", "process_id": 2, "num_processes": 2}, {}, "between 0 and 1, one for each; got 2"),
        ({"coordinator": "a", "process_id": 0, "num_processes": 2}, {}, "expects host:port, such as .*; got a$"),
        ({"coordinator": "a:99999", "process_id": 0, "num_processes": 2}, {}, "expects host:port"),
    ],
)
def test_what_makes_no_sense(options, environ, message):
    with pytest.raises(ValueError, match=message):
        find_seat(ScaleOptions(**options), environ)


def test_gpus_of_a_machine_are_shared_out():
    seat = Seat("a", 1, 5, 8, local=1)
    assert own_devices(seat, 2, {}) == [2, 3]
    assert own_devices(seat, 1, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}) == [1]
    assert own_devices(seat, 1, {"CUDA_VISIBLE_DEVICES": "3"}) is None  # the launcher has done it
    assert own_devices(Seat("a", 1, 0, 2), 1, {}) is None
