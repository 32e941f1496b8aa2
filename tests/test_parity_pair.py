"""Targets: files and modules, whatever they are called, and what is wrong with them in a line."""

import random
import sys

import pytest

from parity.pair import PairError, load, module_name

PAIR = """
from parity import Pair
{imports}

def pair():
    return Pair(torch=None, flax=None, inputs=lambda rng: rng.random({size}))
"""


def size(made):
    return made.batch(0, 0)[0][0].size


def test_a_file_shadows_no_module(tmp_path):
    (tmp_path / "random.py").write_text(PAIR.format(imports="", size=3))
    assert size(load(f"{tmp_path}/random.py:pair")) == 3
    assert sys.modules["random"] is random


def test_two_files_of_one_name_are_two(tmp_path):
    for name, count in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ported.py").write_text(PAIR.format(imports="", size=count))
    found = [size(load(f"{tmp_path}/{name}/ported.py:pair")) for name in ("a", "b", "a")]
    assert found == [3, 4, 3]


def test_a_file_imports_its_neighbour(tmp_path):
    (tmp_path / "neighbour_of_ported.py").write_text("SIZE = 5")
    (tmp_path / "ported.py").write_text(PAIR.format(imports="from neighbour_of_ported import SIZE", size="SIZE"))
    assert size(load(f"{tmp_path}/ported.py:pair")) == 5


def test_a_file_of_a_package_imports_relatively(tmp_path):
    folder = tmp_path / "package_of_ported" / "models"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        (place / "__init__.py").touch()
    (folder / "sizes.py").write_text("SIZE = 6")
    (folder / "ported.py").write_text(PAIR.format(imports="from .sizes import SIZE", size="SIZE"))
    assert size(load(f"{folder}/ported.py:pair")) == 6
    assert module_name(f"{folder}/ported.py") == "package_of_ported.models.ported"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "import nowhere_to_be_found",
            "does not import: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("raise ValueError('one\\ntwo')", "does not import: ValueError: one$"),
        ("import sys; sys.exit('usage')", "does not import: SystemExit: usage"),
        ("pairs = 1", r"has no 'pair' \(did you mean 'pairs'\?\)"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, content, message):
    (tmp_path / "ported.py").write_text(content)
    with pytest.raises(PairError, match=message):
        load(f"{tmp_path}/ported.py:pair")
