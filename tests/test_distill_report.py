import numpy as np
import torch

from jaxdl.data import sources
from jaxdl.distill import report as distill_report

DIGITS = sources.load("digits")


def test_a_row_is_accuracy_cross_entropy_and_agreement():
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(2, 360, 10)).astype(np.float32) * 30
    row = distill_report.measure("student", 7, logits, teacher, DIGITS)
    labels = torch.tensor(DIGITS.test["label"]).long()
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits).double(), labels).item()
    np.testing.assert_allclose(row.loss, expected, rtol=1e-10)
    assert row.accuracy == (logits.argmax(1) == DIGITS.test["label"]).mean()
    assert row.agreement == (logits.argmax(1) == teacher.argmax(1)).mean()


def test_what_the_teacher_was_worth_is_the_difference():
    rows = [
        distill_report.Measured("teacher", 100, 0.99, 0.1, 1.0),
        distill_report.Measured("student", 10, 0.9612, 0.2, 0.97),
        distill_report.Measured("student alone", 10, 0.955, 0.3, 0.96),
    ]
    shown = distill_report.shown(rows)
    assert shown[-1] == "The teacher was worth +0.62 points."
    assert "96.12%" in shown[2]
    assert len(distill_report.shown(rows[:2])) == 3
