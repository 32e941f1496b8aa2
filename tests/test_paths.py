"""Errors about files and folders, and where decoded data are kept."""

import re
from pathlib import Path

import pytest

from jaxdl.data import paths


def test_listing_is_short_and_sorted(tmp_path: Path):
    assert paths.listing(tmp_path) == "nothing"
    for name in "hgfedcba":
        (tmp_path / name).touch()
    assert paths.listing(tmp_path) == "a, b, c, d, e, f and 2 more"


def test_folder_gives_back_a_folder(tmp_path: Path):
    assert paths.folder(tmp_path) == tmp_path


def test_folder_refuses_files_and_nothing(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder, got a file"):
        paths.folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(str(tmp_path / 'none'))}: cannot open this folder"):
        paths.folder(tmp_path / "none")


def test_read_stays_within_its_limit(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    assert paths.read(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        paths.read(tmp_path / "file", 4)


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(FileNotFoundError, match="cannot read it: Is a directory"):
        paths.read(tmp_path, 5)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(FileNotFoundError, match="cannot read it: Permission denied"):
        paths.read(tmp_path / "file", 5)
