"""What every figure of the project has in common."""

import subprocess
import sys

import pytest
from PIL import Image

from jaxdl.engine import figure


def test_a_figure_has_the_size_that_is_asked_for_and_lies_in_its_file_alone(tmp_path):
    drawing = figure.new(6, 3)
    axes = drawing.subplots()
    figure.title(axes, "日本 $x")  # signs that the font lacks are no reason for a warning
    figure.frame(axes, "epoch")
    figure.save(drawing, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (600, 300))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert axes.get_xlabel() == "epoch"
    assert not axes.spines["top"].get_visible()


def test_a_figure_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        figure.save(figure.new(2, 2), tmp_path / "missing" / "a.png")


def test_nothing_waits_for_matplotlib_before_there_is_something_to_draw():
    code = "import sys; from jaxdl.engine import figure; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
