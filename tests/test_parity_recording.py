"""Folders of tensors: what is written is what is read, and damage is one clear error."""

import json

import numpy as np
import pytest
import safetensors.numpy

from parity.recording import FACTS, TENSORS, Recording, RecordingError, Writer, load


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "eval_forward/output": rng.normal(size=(3, 2)),
        "loss/loss": np.float64(1.5),
        "parameter_gradients/a.weight": np.asfortranarray(rng.normal(size=(4, 3))),
        "eval_forward/1": np.arange(5),
        "eval_forward/mask": np.array([True, False]),
        "buffers/empty": np.empty((0, 3)),
    }


def test_round_trip_is_bitwise(tmp_path, tensors):
    Recording(tensors, {"side": "torch"}).save(tmp_path)
    found = load(tmp_path)
    assert list(found.tensors) == list(tensors)
    assert found.facts["side"] == "torch"
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(found.tensors[name], value, strict=name != "loss/loss")
    assert found.phase("eval_forward") == {
        "output": "eval_forward/output",
        "1": "eval_forward/1",
        "mask": "eval_forward/mask",
    }


def test_others_can_read_it(tmp_path, tensors):
    Recording(tensors, {}).save(tmp_path)
    found = safetensors.numpy.load_file(tmp_path / TENSORS)
    assert found.keys() == tensors.keys()
    np.testing.assert_array_equal(found["parameter_gradients/a.weight"], tensors["parameter_gradients/a.weight"])


def test_a_writer_can_be_read_while_it_is_written(tmp_path):
    with Writer(tmp_path) as writer:
        writer["a"] = np.arange(3.0)
        writer["b"] = np.ones(2)
        np.testing.assert_array_equal(writer["a"], np.arange(3.0))
        writer["c"] = np.zeros(1)
        np.testing.assert_array_equal(writer["b"], np.ones(2))
        with pytest.raises(RecordingError, match="a was computed twice"):
            writer["a"] = np.zeros(1)
        with pytest.raises(RecordingError, match="a dump holds no complex128"):
            writer["d"] = np.zeros(1, complex)


def test_an_interrupted_dump_is_no_dump(tmp_path, tensors):
    Recording(tensors, {}).save(tmp_path)
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path) as writer:  # noqa: PT012
        writer["a"] = np.zeros(1)
        raise KeyboardInterrupt
    with pytest.raises(RecordingError, match="is no dump: expected"):
        load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TENSORS]


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_truncated_file_is_damaged(tmp_path, tensors, cut):
    Recording(tensors, {}).save(tmp_path)
    content = (tmp_path / TENSORS).read_bytes()
    (tmp_path / TENSORS).write_bytes(content[:cut])
    with pytest.raises(RecordingError, match="is damaged"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", "{}"])
def test_damaged_facts(tmp_path, tensors, text):
    Recording(tensors, {}).save(tmp_path)
    (tmp_path / FACTS).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RecordingError, match=r"is damaged|is no dump of this version"):
        load(tmp_path)


def test_facts_of_another_dump(tmp_path, tensors):
    Recording(tensors, {}).save(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    facts["checksums"].pop("loss/loss")
    (tmp_path / FACTS).write_text(json.dumps(facts))
    with pytest.raises(RecordingError, match="does not belong to"):
        load(tmp_path)
