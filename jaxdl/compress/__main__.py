"""Makes a trained run small: ``python -m jaxdl.compress RUN --target-size 5%``.

Units are removed, weights factored, pruned while they are trained further, and stored as int8. Compositions of
these that reach the size are tried on images held out from training; the best is trained in full, and the file
that is written is read again and measured on the test images. The run itself has seen the held-out images, unless
it held them out as well: that flatters all compositions alike.
Exit status: 0; 2 where the run, the data or an option cannot be used; otherwise as ``python -m jaxdl.train``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdl.command_line import command_line
from jaxdl.compress.options import PROG, CompressConfig, target_bytes
from jaxdl.config import parse
from jaxdl.engine.run_folder import new_path
from jaxdl.prune.options import based_on
from jaxdl.train import read_options


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = parse(CompressConfig(), argv, PROG)
    if config.compress.compare:
        from jaxdl.compress import report

        return report.compare(config.compress.compare, config.run.out)
    return compress(config, argv)


def compress(config: CompressConfig, argv: Sequence[str]) -> int:
    """Searches, trains, writes and measures; see the exit status above."""
    run = config.compress.run
    if run is None:
        raise ValueError("expected the folder of a run; see --help")
    from jaxdl import inference
    from jaxdl.compress import report, search
    from jaxdl.data import sources
    from jaxdl.engine.host import set_up

    set_up()
    trained = inference.load(run)
    config = read_options(argv, based_on(CompressConfig(), trained.config), PROG)
    source = sources.load(config.data.dataset or "mnist", config.data.data_dir)
    search.check(config, trained, source)
    whole = (run / "weights.safetensors").stat().st_size
    target = target_bytes(config.compress.target_size, whole)
    out = config.run.out or new_path(Path("runs"), f"{run.resolve().name}-small")
    out.mkdir(parents=True, exist_ok=True)
    chosen, tried = search.search(config, trained, source, target, out / "search.json")
    status = search.train_in_full(config, trained, source, chosen, out)
    if status == 0:
        report.report(config, trained, source, chosen, tried, target, out)
    return status


if __name__ == "__main__":
    sys.exit(main())
