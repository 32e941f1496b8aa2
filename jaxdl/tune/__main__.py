"""Searches for the best options: ``python -m jaxdl.tune --data-dir mnist``.

``--search lr=log:1e-3:1 hidden=int:32:512 optimizer=adam,sgd`` says where; all other options are those of
``python -m jaxdl.train``. Trials are compared on images that are held out from the training images. The test
images are looked at once, by the best options, trained on all training images.
Exit status: 0; 1 no trial came to its end, or a worker or the last training failed; 2 a wrong option, storage or
data; 130 and 143 stopped, goes on with ``--resume``.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jaxdl.command_line import command_line
from jaxdl.config import replace
from jaxdl.engine.run_folder import RunFolder, new_path
from jaxdl.train import read_options, write_config
from jaxdl.tune.options import FREE, TuneConfig, check

if TYPE_CHECKING:  # it imports Optuna, which --help and a mistyped option do not need
    from jaxdl.tune.search import Space

PROG = "python -m jaxdl.tune"


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = read_options(argv, TuneConfig(), PROG, free=FREE)
    try:
        check(config)
        from jaxdl.tune import search

        return tune(config, search.of(config))
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ValueError("this needs Optuna: pip install 'jaxdl[tune]'") from None


def tune(config: TuneConfig, space: "Space") -> int:
    """Runs the study and reports on it; returns the exit status."""
    from jaxdl.data import sources
    from jaxdl.pictures import Pictures
    from jaxdl.tune import report as study_report
    from jaxdl.tune import workers

    source, notice = sources.chosen(config.data.dataset, config.data.data_dir)
    config = replace(config, {"dataset": source.name})
    workers.check(config, space, source)
    out = config.run.out or new_path(Path("runs"), f"tune-{source.name}-{config.model.model}")
    with contextlib.closing(RunFolder(out, resume=config.run.resume)) as folder:
        study = workers.open_study(config, space, source, out)
        write_config(folder, config, source, Pictures.of(source, config.data))
        for line in [*([notice] if notice else []), *study_report.heading(config, space, study, source, out)]:
            study_report.say(config, line)
        try:
            with stopped_by_sigterm():
                workers.run(config, space, study, source, out)
        except KeyboardInterrupt as stop:
            number = stop.args[0] if stop.args else signal.SIGINT
            print(f"stopped after {len(study.ended())} trials; go on with --out {out} --resume", file=sys.stderr)
            return 128 + number
        except workers.WorkerError as error:
            print(f"error: {error}; go on with --out {out} --resume", file=sys.stderr)
            return 1
        return study_report.report(config, study, out)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what is inside as Ctrl-C does; the exception has its number."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
