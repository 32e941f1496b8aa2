"""Makes one of several trained runs: ``python -m jaxdl.fuse RUN RUN ...``.

Ensembles, a stacked combiner, and single models from averaged weights, measured beside the members. What has to
be fitted (stacking, the greedy soup) is fitted on one half of the test images and measured on the other, and the
other way round, so no image is judged by what has seen its label.
Exit status: 0; 2 where the runs or the data cannot be used.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.command_line import command_line
from jaxdl.config import parse
from jaxdl.engine.run_folder import new_path

PROG = "python -m jaxdl.fuse"


@dataclasses.dataclass(frozen=True)
class FuseOptions:
    """What to fuse."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """The folders of runs that have ended, of one architecture and one data set."""
    data_dir: Path | None = None
    """Where that data set lies now, if it was moved."""
    out: Path | None = None
    """Folder for the table, the picture and the fused models. Without it: a new one under runs/."""
    points: int = 21
    """Points on the way from the first run's weights to the second's, ends included."""
    seed: int = 0
    """Of the halves of the test images, and of the turns of the alignment."""


@dataclasses.dataclass(frozen=True)
class FuseConfig:
    """Fuses runs of one architecture."""

    fuse: FuseOptions = dataclasses.field(default_factory=FuseOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    options = parse(FuseConfig(), argv, PROG).fuse
    if len(options.runs) < 2:
        raise ValueError(f"expected two runs or more to fuse; got {len(options.runs)}")
    if options.points < 3:
        raise ValueError(f"--points must be at least 3; got {options.points}")
    from jaxdl.fuse import report as fuse_report
    from jaxdl.fuse.fusion import Fusion

    fusion = Fusion(options.runs, options.data_dir)
    out = _folder(options.out)
    print("\n".join(fuse_report.report(fusion, out, options.points, options.seed)))
    return 0


def _folder(path: Path | None) -> Path:
    out = path or new_path(Path("runs"), "fused")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / "fuse.json").exists():
        raise ValueError(f"{out} is not empty and holds no fused runs; choose another --out")
    return out


if __name__ == "__main__":
    sys.exit(main())
