"""A figure in the project's style, from an empty one to the file.

matplotlib is imported when a figure is drawn, so that nothing else waits for it; pyplot, which keeps global state
and looks for a screen, is not used at all.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from jaxdl.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIGHT, INK = "#e4e7eb", "#333a42"


def new(width: float, height: float) -> "Figure":
    """An empty figure of so many hundred pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure((width, height), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    return figure


def title(axes: "Axes", text: str) -> None:
    """Writes the title of a panel above its left end."""
    axes.set_title(text, loc="left", color=INK, fontsize=11, weight="bold")


def frame(axes: "Axes", xlabel: str) -> None:
    """A light grid behind what is drawn, no lines above and at the right."""
    axes.set_xlabel(xlabel)
    axes.grid(color=LIGHT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: "Figure", path: Path) -> None:
    """Writes the PNG, atomically.

    Raises:
      OSError: the file cannot be written.
    """
    with warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks shows boxes: no reason to disturb the run.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        write_atomic(path, lambda temporary: figure.savefig(temporary, format="png"))
