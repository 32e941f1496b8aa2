"""Looks at the data and the machine and says what to train with, and why: ``python -m jaxdl.train --explain``."""

import os
import shlex
from collections.abc import Mapping
from typing import Any

import jax

from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data import sources
from jaxdl.data.sources import Source
from jaxdl.engine import table
from jaxdl.methods import survey as looks
from jaxdl.methods.advice import FEW, STEPS, Trial, advice, better, could_be_picture, described
from jaxdl.methods.survey import Survey
from jaxdl.quick_trial import parted, trial


def explain(config: TrainConfig) -> int:
    """Prints what the data are like, and the advice with its command line; returns the exit status, 0.

    Raises:
      FileNotFoundError, ValueError: data that cannot be read, or too few to tell anything.
    """
    source, notice = sources.chosen(config.data.dataset, config.data.data_dir)
    if notice:
        print(notice)
    seen = looks.survey(source, config.run.seed)
    print(f"{source.name}: {source.origin}")
    print("\n".join(f"  {line}" for line in described(seen, source.classes)))
    print(machine())
    base = replace(TrainConfig(), {"dataset": source.name, "data_dir": config.data.data_dir, "normalize": True})
    base = replace(base, {"batch_size": 64 if seen.train < FEW else 128, "seed": config.run.seed})
    trials = tried(base, source, seen)
    rows = [
        [f"{t.model}, {t.optimizer}", f"{t.lr:g}", f"{t.accuracy:.1%}", f"{1000 * t.seconds:.2f}"] for t in trials
    ]
    print(f"Tried for {STEPS} steps each, a third of some images kept aside:")
    for line in table.lines(["", "rate", "accuracy", "ms a step"], rows):
        print(f"  {line}")
    options, reasons = advice(seen, trials)
    width = max(len(f"{reason.topic}: {reason.choice}") for reason in reasons)
    print("Advice")
    for reason in reasons:
        print(f"  {f'{reason.topic}: {reason.choice}'.ljust(width)}  {reason.why}")
    where = {"dataset": source.name, "data_dir": config.data.data_dir}
    print(command(where | options))
    return 0


def machine() -> str:
    """A line on what there is to compute with."""
    device, cores = jax.devices()[0], len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"Machine: {len(jax.devices())} x {device.device_kind} ({device.platform}), {cores} cores, {memory:.0f} GB"
    )


def tried(base: TrainConfig, source: Source, seen: Survey) -> list[Trial]:
    """Short trainings: of the models that could suit with Adam, then of the best with SGD and momentum."""
    part = parted(source, looks.LIMIT, base.run.seed)
    models = ["net", "cnn"] if could_be_picture(seen) else ["net"]
    found = [trial(replace(base, {"model": model, "optimizer": "adam"}), part) for model in models]
    best = better(found, seen).model
    sgd = {"model": best, "optimizer": "sgd", "momentum": 0.9, "nesterov": True}
    return [*found, trial(replace(base, sgd), part)]


def command(options: Mapping[str, Any]) -> str:
    """The command line that trains with some options."""
    known, words = to_dict(TrainConfig()), ["python -m jaxdl.train"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value != known[name]:
            words.append(f"{flag} {shlex.quote(f'{value:g}' if isinstance(value, float) else str(value))}")
    return " ".join(words)
