import json
import os
import stat
from pathlib import Path

import pytest

from jaxdl import files


def test_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    files.write_json(path, {"x": 2})
    assert json.loads(path.read_text()) == {"x": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(temporary: Path):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_a_plain_file(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / "a", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", {"x": float("nan")})


def test_cache_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.cache() == Path("/somewhere/jaxdl")
    monkeypatch.setenv("HOME", "/home/someone")
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert files.cache() == Path("/home/someone/.cache/jaxdl")


def test_the_cache_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "jaxdl").mkdir(mode=0o755)
    assert files.make_cache() == tmp_path / "jaxdl"
    assert stat.S_IMODE((tmp_path / "jaxdl").stat().st_mode) == 0o700


def test_json_that_is_missing_or_damaged_is_one_line(tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(FileNotFoundError, match="no report yet"):
        files.read_json(path, "no report yet")
    files.write_json(path, {"a": [1]})
    assert files.read_json(path, "no report yet") == {"a": [1]}
    for damaged in (b'{"a"', b"\xff\xfe"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            files.read_json(path, "no report yet")
