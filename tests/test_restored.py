import pytest

from jaxdl import restored, train
from jaxdl.average import __main__ as average


def test_a_run_that_has_not_ended_or_never_was_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        restored.restore(tmp_path, average.AverageConfig(), train.plain, None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="has not ended yet"):
        restored.restore(tmp_path, average.AverageConfig(), train.plain, None)
