"""Reading .npz files that may be damaged or hostile, and writing them whole."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxdl.data import npz

ARRAYS = {"x": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "y": np.array([1, 0])}


def members(path: Path, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
    return path


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def outcome(path: Path, data: bytes) -> dict[str, np.ndarray] | str:
    """The arrays, or the text of a ValueError; any other exception fails the test."""
    path.write_bytes(data)
    try:
        return npz.read(path)
    except ValueError as error:
        return str(error)


def test_reads_what_write_wrote(tmp_path: Path):
    path = tmp_path / "a.npz"
    npz.write(path, ARRAYS)
    arrays = npz.read(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        assert not arrays[name].flags.writeable
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_reads_what_numpy_compressed_and_fortran_order(tmp_path: Path):
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(ARRAYS["x"]))
    np.testing.assert_array_equal(npz.read(tmp_path / "a.npz")["x"], ARRAYS["x"])


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.npz"
    npz.write(path, ARRAYS)

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        npz.write(path, {"x": np.zeros(1)})
    assert npz.read(path).keys() == ARRAYS.keys()
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_pickles_are_refused(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.array([None, {}], dtype=object))
    with pytest.raises(ValueError, match=r"x\.npy is not a plain NumPy array"):
        npz.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999,), }\n") + bytes(8),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n") + bytes(5),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }\n") + bytes(5),
        header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,), }\n") + bytes(5),
        header("no dictionary\n"),
    ],
)
def test_member_that_is_no_array(tmp_path: Path, content: bytes):
    with pytest.raises(ValueError, match=r"a\.npz: x\.npy is not a plain NumPy array"):
        npz.read(members(tmp_path / "a.npz", x=content))


def test_sizes_that_no_deflate_can_have_are_refused(tmp_path: Path):
    path = members(tmp_path / "a.npz", x=b"1234")
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="states a size"):
        npz.read(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_byte_and_every_truncation(tmp_path: Path, save):
    """Only ValueError, or the right content: zip's own fields have bits of no meaning."""
    buffer = io.BytesIO()
    save(buffer, **ARRAYS)
    data = buffer.getvalue()
    path = tmp_path / "a.npz"
    for index in range(len(data)):
        found = outcome(path, data[:index] + bytes([data[index] ^ 1 << index % 8]) + data[index + 1 :])
        if isinstance(found, str):
            assert found.startswith(str(path))
        else:
            assert all((array == ARRAYS[name]).all() for name, array in found.items() if name in ARRAYS)
    for length in range(len(data)):
        assert str(outcome(path, data[:length])).startswith(str(path))


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="cannot read it: No such file"):
        npz.read(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match="cannot read it: Is a directory"):
        npz.read(tmp_path)
