import numpy as np

from jaxdl.methods.multitask.tasks import Task
from jaxdl.multitask import report as multitask_report


def test_errors_by_hand():
    label, parity, slant = Task("label", "classes"), Task("parity", "binary"), Task("slant", "number", 5.0, 2.0)
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    assert multitask_report.error(label, logits, np.array([0, 0, 1])) == 2 / 3
    assert multitask_report.error(parity, np.array([2.0, -1.0]), np.array([1.0, 1.0])) == 0.5
    # Half a unit of 2 degrees and a whole one: sqrt((1 + 4) / 2).
    found = multitask_report.error(slant, np.array([0.5, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, np.sqrt(2.5))
