"""Trains a classifier: ``python -m jaxdl.train --help``.

Exit status: 0 the run is complete; 1 it failed (a loss that is no number, a full disk); 2 an option or the data is
wrong; 130 or 143 it was stopped by Ctrl-C or SIGTERM, saved, and goes on with ``--resume``.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jaxdl
from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.config import TrainConfig, nearest, parse, replace, to_dict
from jaxdl.engine import processes
from jaxdl.engine.run_folder import RunFolder, RunPaths, command_of, new_path, read_config, resumed
from jaxdl.recipes import RECIPES

Config = TypeVar("Config", bound=TrainConfig)

if TYPE_CHECKING:  # they import jax, which --help and a mistyped option do not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source
    from jaxdl.pictures import Pictures

    Make = Callable[[Config, Source], Technique]

PROG = "python -m jaxdl.train"

# What may change when a run is resumed; its length only where the schedule does not depend on it.
LENGTH = {"epochs", "steps"}
FREE = {"out", "resume", "recipe", "quiet", "explain", "tensorboard", "keep", "data_dir"} | LENGTH
# On how many devices and processes, which see the same batches however many they are.
FREE |= {"devices", "parallel", "uneven", "fsdp", "coordinator", "process_id", "num_processes", "start_timeout"}
ENDING_SCHEDULES = ("cosine", "one_cycle")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    return command(argv, TrainConfig(), PROG, plain)


def command(argv: Sequence[str] | None, default: Config, prog: str, technique: "Make[Config]") -> int:
    """Runs the command line of a technique that trains, and returns the exit status.

    Args:
      argv: its words; None: those of the process.
      default: its options, those of `TrainConfig` and its own.
      prog: how a user calls it.
      technique: ``(options, data) -> Technique``.
    """

    @command_line(prog, stopped="stopped before the first step: there is nothing to save")
    def run(words: list[str]) -> int:
        with processes.settled():
            return train(read_options(words, default, prog), technique)

    return processes.leave(run(argv))


def plain(*_: object) -> "Technique":
    """No technique: training as the options say."""
    from jaxdl.build import PLAIN

    return PLAIN


def read_options(argv: Sequence[str], default: Config, prog: str, free: Collection[str] = ()) -> Config:
    """The options of a command line, over those of its recipe and of the run that it resumes.

    ``free``: options of its own that may change when it is resumed.

    Raises:
      ValueError: an unknown recipe; a resumed run that another command wrote, or that was started with other
        options (all that differ).
    """
    config = parse(default, argv, prog)
    recipe = config.run.recipe
    if recipe is not None:
        if recipe not in RECIPES:
            raise ValueError(
                f"--recipe must be one of {', '.join(RECIPES)}; got {recipe}{nearest(recipe, RECIPES)}"
            )
        config = parse(replace(default, RECIPES[recipe]), argv, prog)
    if not config.run.resume:
        return config
    if config.run.out is None:
        raise ValueError("--resume needs the folder of the run: --out RUN")
    if not (config.run.out / "config.json").exists():
        return config
    before = resumed(config.run.out, default)
    recorded = replace(default, before["options"] | before.get("technique", {}))
    return same_run(recorded, parse(recorded, argv, prog), free)


def same_run(recorded: Config, config: Config, more_free: Collection[str] = ()) -> Config:
    """``config``, if a run that was started with ``recorded`` can go on with it.

    Raises:
      ValueError: it cannot, with every option that differs.
    """
    free = (FREE - LENGTH if recorded.optim.schedule in ENDING_SCHEDULES else FREE) | {*more_free}
    before, now = to_dict(recorded), to_dict(config)
    changed = [
        f"--{name.replace('_', '-')} was {before[name]}, is {now[name]}"
        for name in before
        if before[name] != now[name] and name not in free
    ]
    if changed:
        raise ValueError(f"the run in {config.run.out} was started with other options: {'; '.join(changed)}")
    return config


def train(config: Config, technique: "Make[Config]" = plain) -> int:
    """Trains as ``config`` and the technique say; see the exit status above."""
    processes.start(config.scale, to_dict(config))
    from jaxdl import build, session
    from jaxdl.data import sources
    from jaxdl.engine.host import set_up

    set_up()
    if config.run.explain:
        from jaxdl.explain import explain

        return explain(config)
    source, notice = sources.chosen(config.data.dataset, config.data.data_dir)
    config = replace(config, {"dataset": source.name})
    changes = technique(config, source)
    source = changes.data(source)
    if processes.several():
        processes.agree("data", {"fingerprint": source.fingerprint()})
    job = build.job(config, source, changes)
    config = replace(config, {"chunk_steps": job.chunk_steps})
    with contextlib.ExitStack() as stack:

        def claim() -> str:
            out = config.run.out or new_path(Path("runs"), f"{source.name}-{config.model.model}")
            folder = stack.enter_context(contextlib.closing(RunFolder(out, resume=config.run.resume)))
            write_config(folder, config, source, job.seen)
            return str(out)

        paths = RunPaths(Path(processes.from_first(claim)))
        return session.Session(config, source, job, paths, notice).run()


def write_config(folder: RunFolder, config: TrainConfig, source: "Source", seen: "Pictures") -> None:
    """Writes ``config.json``: what is needed to resume the run, to repeat it and to use its weights.

    Raises:
      ValueError: the run in the folder was trained on other data.
    """
    import flax
    import jax
    import optax

    data = {"fingerprint": source.fingerprint(), "origin": source.origin}
    if folder.config.exists():
        before = read_config(folder.path)["data"]
        if before["fingerprint"] != data["fingerprint"]:
            raise ValueError(
                f"the run in {folder.path} was started on other data: {before['origin']}; got {source.origin}"
            )
    here = dict.fromkeys(("out", "coordinator", "process_id", "num_processes"))
    recorded = to_dict(config) | here | {"resume": False}
    options = {name: recorded.pop(name) for name in to_dict(TrainConfig())}
    versions = {
        "jaxdl": jaxdl.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
    }
    known = {
        "command": command_of(config),
        "options": options,
        "technique": recorded,
        "images": dataclasses.asdict(seen),
        "data": data,
        "versions": versions,
    }
    files.write_json(folder.config, known)


if __name__ == "__main__":
    sys.exit(main())
