"""Which of several processes this one is: by options, or as SLURM, MPI or Kubernetes tell it."""

import dataclasses
import os
import re
import socket
import zlib
from collections.abc import Mapping
from typing import Any

from jaxdl.config import ScaleOptions

PORT = 29500  # where nothing tells jobs apart; torchrun's
HIGH_PORTS = 61440  # the upper 4096, where jobs are told apart by a number of theirs


@dataclasses.dataclass(frozen=True)
class Seat:
    """The place of a process among those of a run.

    Attributes:
      host, port: where the first process listens.
      process: 0 to ``processes - 1``.
      processes: how many there are.
      local: which of those on this machine; None where nobody says.
    """

    host: str
    port: int
    process: int
    processes: int
    local: int | None = None


def find_seat(options: ScaleOptions, environ: Mapping[str, str] = os.environ) -> Seat | None:
    """The place of this process; None where it trains alone. What the options say comes first.

    Raises:
      ValueError: something is missing or makes no sense.
    """
    by_hand = {
        "coordinator": options.coordinator,
        "process_id": options.process_id,
        "num_processes": options.num_processes,
    }
    given = {name: value for name, value in by_hand.items() if value is not None}
    known: dict[str, Any] = {"local": None} | _found(environ, options.num_processes) | given
    if known.get("num_processes", 1) == 1 and not given:
        return None
    missing = [f"--{name.replace('_', '-')}" for name in by_hand if name not in known]
    if missing:
        told = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in known.items() if name in by_hand)
        raise ValueError(f"of several processes each needs {', '.join(missing)} as well; got {told}")
    process, processes = known["process_id"], known["num_processes"]
    if not 0 <= process < processes:
        raise ValueError(f"--process-id must lie between 0 and {processes - 1}, one for each; got {process}")
    host, port = _address(known["coordinator"])
    return Seat(host, port, process, processes, known["local"]) if processes > 1 else None


def own_devices(seat: Seat, count: int, environ: Mapping[str, str] = os.environ) -> list[int] | None:
    """Which of this machine's GPUs are this process's own; None: all that it sees.

    A launcher that starts several processes on a machine either shows each its own, or numbers them.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if seat.local is None or (visible is not None and len(visible.split(",")) <= count):
        return None
    return list(range(seat.local * count, (seat.local + 1) * count))


def _found(environ: Mapping[str, str], num_processes: int | None) -> dict[str, Any]:
    if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"} <= environ.keys():
        return _slurm(environ)
    for rank, size, local in (
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ):
        if {rank, size, local} <= environ.keys():
            return _mpi(environ, int(environ[rank]), int(environ[size]), int(environ[local]))
    # A pod is told its index and not how many there are.
    if "JOB_COMPLETION_INDEX" in environ and num_processes is not None:
        return _kubernetes(int(environ["JOB_COMPLETION_INDEX"]), socket.getfqdn())
    return {}


def _slurm(environ: Mapping[str, str]) -> dict[str, Any]:
    # The first of node001, node001,other or node[001-004,007],other.
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", environ["SLURM_STEP_NODELIST"])
    assert first
    port = HIGH_PORTS + int(environ["SLURM_JOB_ID"]) % 4096
    return {
        "coordinator": f"{first[1]}{first[2] or ''}:{port}",
        "process_id": int(environ["SLURM_PROCID"]),
        "num_processes": int(environ["SLURM_NTASKS"]),
        "local": int(environ["SLURM_LOCALID"]),
    }


def _mpi(environ: Mapping[str, str], rank: int, size: int, local: int) -> dict[str, Any]:
    known = {"process_id": rank, "num_processes": size, "local": local}
    launcher = environ.get(
        "OMPI_MCA_orte_hnp_uri", ""
    )  # of Open MPI 4: 1531576320.0;tcp://10.96.0.1,10.0.0.1:34911
    on_machine = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", environ.get("MPI_LOCALNRANKS"))
    address = re.search(r"tcp://([^,:]+)", launcher)
    if on_machine == str(size):
        host = "127.0.0.1"
    elif address:
        host = address[1]
    else:
        return known
    job = launcher or environ.get("PMIX_NAMESPACE") or environ.get("PMI_ID")
    return known | {"coordinator": f"{host}:{HIGH_PORTS + zlib.crc32(job.encode()) % 4096 if job else PORT}"}


def _kubernetes(index: int, name: str) -> dict[str, Any]:
    # Of an indexed job with a headless service: digits-1.digits.default.svc.cluster.local
    first = re.sub(rf"^(.+)-{index}(?=\.|$)", r"\1-0", name)
    return {"coordinator": f"{first}:{PORT}", "process_id": index}


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"--coordinator expects host:port, such as 10.0.0.1:{PORT}; got {text}")
    return host.strip("[]"), int(port)
