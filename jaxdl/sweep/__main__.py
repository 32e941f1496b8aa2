"""Trains many seeds or settings together: ``python -m jaxdl.sweep --recipe mlp --seeds 8``.

``--over lr=0.05,0.1,0.2 --over weight_decay=0,1e-4`` trains every combination, each with every seed. Each member
is the run that ``python -m jaxdl.train`` would do with its options, and leaves a run's folder. To choose between
settings use ``python -m jaxdl.tune``, which does so without the test images.
Exit status: 0; 1 where no member came to the end; 2 a wrong option or bad data; 130 stopped.
"""

import contextlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.config import replace
from jaxdl.engine.log import Console, JsonLines
from jaxdl.engine.run_folder import RunFolder, new_path
from jaxdl.sweep import settings
from jaxdl.sweep.plan import Member, Record, SweepConfig, planned
from jaxdl.train import read_options, write_config

if TYPE_CHECKING:  # they import jax, which --help and a mistyped option do not need
    from jaxdl.data.sources import Source
    from jaxdl.sweep.groups import Group
    from jaxdl.sweep.members import Members

PROG = "python -m jaxdl.sweep"


@command_line(PROG, stopped="stopped: of the members that were being trained nothing is kept")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = read_options(argv, SweepConfig(), PROG)
    return sweep(config, planned(config))


def sweep(config: SweepConfig, plan: Sequence[Member]) -> int:
    """Trains the members and reports on them; returns the exit status."""
    from jaxdl.data import sources
    from jaxdl.engine.host import set_up
    from jaxdl.sweep import members
    from jaxdl.sweep import report as sweep_report
    from jaxdl.sweep.groups import groups

    members.use_cores()
    set_up()
    source, notice = sources.chosen(config.data.dataset, config.data.data_dir)
    for member in plan[:: config.sweep.seeds]:
        members.check(member.config, source)
    varying = {name for name in plan[-1].setting if len({settings.shown(m.setting[name]) for m in plan}) > 1}
    programs = groups([replace(member.config, {"dataset": source.name}) for member in plan], varying)
    out = config.run.out or new_path(Path("runs"), f"sweep-{source.name}-{config.model.model}")
    with contextlib.closing(RunFolder(out, resume=False)):
        started = time.perf_counter()
        console = Console(1, 1, 1, quiet=config.run.quiet)
        for line in [*([notice] if notice else []), *_heading(source, plan, programs, out)]:
            console.message(line)
        used = [train(config, group, [plan[place] for place in group.places], source, out) for group in programs]
        print(sweep_report.report(plan, used, time.perf_counter() - started, out))
    return int(all(member.failed for member in plan))


def train(
    config: SweepConfig, group: "Group", own: Sequence[Member], source: "Source", out: Path
) -> dict[str, Any]:
    """Trains the members of one program, writes their folders, and returns how it was done."""
    from jaxdl.sweep.members import Members

    way = None if config.sweep.way == "auto" else config.sweep.way
    together = Members(group, source, way=way)
    job, device = together.job, together.mesh.devices.flat[0]
    epochs = math.ceil(job.steps / job.loader.steps_per_epoch)
    console = Console(job.steps, job.loader.steps_per_epoch, epochs, quiet=config.run.quiet)
    on = f"{together.mesh.size} x {device.device_kind}"
    console.message(f"{len(own)} members, {job.steps} steps each, on {on}, {together.way}: {together.why}")

    def report(records: Mapping[int, Record]) -> tuple[int, ...]:
        for place, record in records.items():
            own[place].records.append(record)
        found = [record["accuracy"] for record in records.values()]
        epoch = math.ceil(next(iter(records.values()))["epoch"])
        console.message(
            f"Epoch [{epoch}/{epochs}], test accuracy of {len(found)} members: mean "
            f"{sum(found) / len(found):.2%}, lowest {min(found):.2%}, highest {max(found):.2%}"
        )
        return ()

    with contextlib.closing(console):
        states = together.train(group, report, console.progress)
    for place, member in enumerate(own):
        write(member, together, together.weights(states, place), source, out)
    return {"members": len(own), "steps": job.steps, "devices": on, "way": together.way, "why": together.why}


def write(member: Member, together: "Members", trained: tuple[Any, Any], source: "Source", out: Path) -> None:
    """Writes the folder of a run that a member leaves; of one that failed, without weights."""
    from jaxdl.engine import weights

    with contextlib.closing(RunFolder(out / f"member-{member.number:03}", resume=False)) as folder:
        write_config(folder, replace(member.config, {"dataset": source.name}), source, together.job.seen)
        with contextlib.closing(JsonLines(folder.metrics)) as lines:
            for record in member.records:
                at = {"step": record["step"], "epoch": record["epoch"]}
                trained_ = {name: record[f"train_{name}"] for name in ("loss", "accuracy")}
                lines.write({"kind": "train", **at, **trained_})
                lines.write({"kind": "eval", **at, **{name: record[name] for name in trained_}})
        if member.failed:
            return
        weights.save(folder.weights, together.job.model, *trained)
        last = member.records[-1]
        files.write_json(
            folder.summary, {name: last[name] for name in ("accuracy", "loss")} | {"steps": last["step"]}
        )


def _heading(source: "Source", plan: Sequence[Member], programs: "Sequence[Group]", out: Path) -> list[str]:
    train, test, seeds = (
        len(source.train["label"]),
        len(source.test["label"]),
        len({m.config.run.seed for m in plan}),
    )
    wanted = len({settings.label(member.setting) for member in plan})
    several = f"{len(programs)} programs, one after another" if len(programs) > 1 else "one program"
    return [
        f"{source.name}: {train} training and {test} test images ({source.origin})",
        f"{len(plan)} members ({wanted} x {seeds}: settings, seeds), {several} -> {out}",
    ]


if __name__ == "__main__":
    sys.exit(main())
