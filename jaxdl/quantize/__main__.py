"""Makes a trained run compute in int8: ``python -m jaxdl.quantize RUN``.

Its layers become int8 codes, after training (``--method static`` or ``dynamic``) or with training that takes the
rounding into account (``qat``). The folder that is written is used like a run: ``python -m jaxdl.predict FOLDER``.
Exit status: 0; 2 where the run, the data or an option cannot be used; with qat also as ``python -m jaxdl.train``.
"""

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.config import DataOptions, ModelOptions, parse, replace, to_dict
from jaxdl.engine.run_folder import RunFolder, command_of, new_path, read_config
from jaxdl.quantize.options import PROG, QuantizeConfig, QuantizeOptions
from jaxdl.train import command

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source
    from jaxdl.inference import Trained

# Of the training with --method qat, where not given: small steps from weights that are good already.
TRAINING = {"epochs": 1, "optimizer": "adam", "lr": 1e-4, "schedule": "cosine"}
HANDED_ON = ("label_smoothing", "class_weight", "l1", "l2", "seed")  # beside the options of data and model


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = parse(QuantizeConfig(), argv, PROG)
    options = config.quantize
    from jaxdl.quantize import report as quantize_report

    if options.compare:
        return quantize_report.compare(options.compare, config.run.out or Path())
    default = run_config(options, config.run.resume)
    out = config.run.out or new_path(Path("runs"), f"{(options.run or Path()).resolve().name}-int8")
    if options.method == "qat":
        status = command([*argv, "--out", str(out)], default, PROG, technique)
        return status or finish(out, config.data.data_dir)
    check_no_training(config)
    return convert(config, out)


def run_config(options: QuantizeOptions, resume: bool) -> QuantizeConfig:
    """The options that a run hands on, and the defaults of the training with --method qat.

    Raises:
      FileNotFoundError, ValueError: there is no such run, or it has no weights of float32.
    """
    from jaxdl.quantize import codes

    if options.run is None:
        raise ValueError("expected the folder of a run; see --help")
    recorded = read_config(options.run)["options"]
    if (options.run / codes.FILE).exists() and not resume:
        raise ValueError(f"{options.run} is in int8 already; quantize the run it was made of")
    names = [field.name for group in (DataOptions, ModelOptions) for field in dataclasses.fields(group)]
    return replace(QuantizeConfig(), TRAINING | {name: recorded[name] for name in (*names, *HANDED_ON)})


def check_no_training(config: QuantizeConfig) -> None:
    """Raises ValueError where an option of training is given that only --method qat has a use for."""
    given, plain = to_dict(config), to_dict(QuantizeConfig())
    ours = {field.name for field in dataclasses.fields(QuantizeOptions)} | {"data_dir", "out", "quiet"}
    for name, value in given.items():
        if name not in ours and value != plain[name]:
            raise ValueError(f"--{name.replace('_', '-')} has no meaning for --method {config.quantize.method}")


def convert(config: QuantizeConfig, out: Path) -> int:
    """Quantizes a trained run, writes the folder and its report, and returns the exit status."""
    from jaxdl import inference
    from jaxdl.engine.host import set_up
    from jaxdl.quantize import codes
    from jaxdl.quantize import report as quantize_report

    set_up()
    options, run = config.quantize, config.quantize.run or Path()
    trained = inference.load(run)
    source = source_of(trained, config.data.data_dir)
    ranges = None if options.method == "dynamic" else codes.calibrated(trained, source, options)
    with contextlib.closing(RunFolder(out, resume=False)) as folder:
        codes.save(out, trained, options, ranges)
        recorded = to_dict(config)
        own = {field.name: recorded[field.name] for field in dataclasses.fields(options)}
        known = read_config(run) | {"command": command_of(config), "technique": own}
        files.write_json(folder.config, known)
        quantize_report.report(out, trained, source)
    return 0


def finish(out: Path, data_dir: Path | None) -> int:
    """Quantizes a run whose training with --method qat has ended, with the ranges it ended with, and reports."""
    from jaxdl import build, inference
    from jaxdl.data import sources
    from jaxdl.engine.checkpoint import Checkpoints
    from jaxdl.methods.quantize import qat
    from jaxdl.quantize import codes
    from jaxdl.quantize import report as quantize_report

    recorded = read_config(out)
    config = replace(QuantizeConfig(), recorded["options"] | recorded["technique"])
    source = sources.load(config.data.dataset or "mnist", data_dir or config.data.data_dir)
    with contextlib.closing(Checkpoints(out / "checkpoints", config.run.keep)) as checkpoints:
        last = checkpoints.restore(build.job(config, source, technique(config, source)).state, print)
    if last is None:
        raise FileNotFoundError(f"{out} has no checkpoint, which the ranges of the inputs are in")
    codes.save(out, inference.load(out), config.quantize, qat.trained_ranges(last[0].stats))
    quantize_report.report(out, inference.load(config.quantize.run or Path()), source)
    return 0


def technique(config: QuantizeConfig, source: "Source") -> "Technique":
    """Training from the weights of the run, with rounded weights and inputs.

    Raises:
      ValueError: a run of other images or classes, or as `jaxdl.quantize.codes.calibrated`.
    """
    from flax import nnx

    from jaxdl import build, inference
    from jaxdl.methods.quantize import qat
    from jaxdl.quantize import codes

    start = inference.load(config.quantize.run or Path())
    ranges = codes.calibrated(start, source, config.quantize)

    def faked(net: nnx.Module) -> nnx.Module:
        nnx.update(net, start.state.params, start.state.stats)
        return qat.fake_quantize(net, codes.scheme(config.quantize), ranges)

    return build.Technique(seen=lambda _: start.seen, model=faked, deploy=qat.plain)


def source_of(trained: "Trained", data_dir: Path | None) -> "Source":
    """The data set of a run."""
    from jaxdl.data import sources

    data = trained.config.data
    return sources.load(data.dataset or "mnist", data_dir or data.data_dir)


if __name__ == "__main__":
    sys.exit(main())
