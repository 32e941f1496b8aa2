import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxdl import inference, parts, restored
from jaxdl.average import __main__ as average
from jaxdl.average import report as average_report
from jaxdl.data import sources
from jaxdl.methods.fuse import averaging
from jaxdl.models import MODELS, Net
from jaxdl.nn.norm import BatchNorm


class Normed(nnx.Module):
    """A small model with running statistics."""

    def __init__(self, shape, classes, *, rngs):
        self.bn, self.net = BatchNorm(1), Net(shape, classes, hidden=5, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.net(self.bn(x), rngs)


def test_statistics_of_an_average_are_measured_anew_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MODELS", {**MODELS, "resnet18": lambda *a, rngs: Normed(*a, rngs=rngs)})
    argv = ["--dataset", "digits", "--model", "resnet18", "--steps", "6", "--batch-size", "300", "--lr", "0.1"]
    out = tmp_path / "r"
    assert average.main([*argv, "--quiet", "--no-tensorboard", "--decay", "0.5", "--out", str(out)]) == 0
    rows = json.loads((out / "average.json").read_text())
    assert [row["name"] for row in rows][2] == "average, its statistics measured anew"
    found = restored.restore(out, average.AverageConfig(), average.technique, None)
    mean, old = averaging.average_of((found.state.params, found.state.stats))
    expected = averaging.update_bn(found.job.model, mean, old, found.job.loader, average_report.prepare(found.job))
    written = inference.load(out)
    for ours, theirs in zip(*map(jax.tree.leaves, (written.state.stats, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert not np.allclose(written.state.stats["bn"]["running_var"], old["bn"]["running_var"])
    assert written.evaluate(sources.load("digits"))["loss"] == pytest.approx(rows[2]["loss"], rel=1e-4)
