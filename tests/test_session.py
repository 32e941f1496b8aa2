import numpy as np

from jaxdl.session import confusion_counts


def test_confusion_counts_true_rows_and_predicted_columns():
    chunks = [np.array([[[0.9, 0.1], [0.2, 0.8]]]), np.array([[[0.6, 0.4]]])]  # (batches, batch, classes) each
    np.testing.assert_array_equal(confusion_counts(np.array([0, 1, 1]), chunks, 2), [[1, 0], [1, 1]])
