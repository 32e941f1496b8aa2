import pytest

from jaxdl import average, restored, train


def test_a_run_that_has_not_ended_is_an_error(tmp_path):
    argv = ["--dataset", "digits", "--steps", "1", "--quiet", "--no-tensorboard", "--out", str(tmp_path / "r")]
    assert train.main(argv) == 0
    (tmp_path / "r" / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="has not ended yet"):
        restored.restore(tmp_path / "r", average.AverageConfig(), train.plain, None)
