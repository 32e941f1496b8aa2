"""Stacking: a combiner that is trained on what the members say of images that they were not trained on.

Source: Wolpert 1992, "Stacked generalization"; scikit-learn's ``StackingClassifier``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxdl.methods.fuse.ensemble import SMALLEST

Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def combiner(said: np.ndarray, labels: np.ndarray, strength: float = 0.01) -> Callable[[np.ndarray], np.ndarray]:
    """A logistic regression on the members' log-probabilities, fitted: ``said -> probabilities`` (N, classes).

    Args:
      said: (members, N, classes), probabilities.
      labels: (N,); each class occurs.
      strength: the inverse of its L2 penalty's strength, scikit-learn's ``C``.

    Raises:
      ValueError: a class that does not occur among the labels.
    """
    from sklearn.linear_model import LogisticRegression

    missing = np.setdiff1d(np.arange(said.shape[2]), labels)
    if len(missing):
        raise ValueError(f"stacking needs images of every class to fit on; there is none of class {missing[0]}")
    model = LogisticRegression(C=strength, max_iter=1000).fit(_features(said), labels)
    return lambda said: model.predict_proba(_features(said))


def crossed(fit: Fit, said: np.ndarray, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """What a combiner says of every example, fitted on the half of them in which the example is not.

    Args:
      fit: ``(said, labels) -> (said -> probabilities)``, as `combiner`.
      said: (members, N, classes).
      labels: (N,).
      seed: of the halves, which have as many of each class as can be.
    """
    found = np.empty(said.shape[1:])
    for inside, outside in halves(labels, seed):
        found[outside] = fit(said[:, inside], labels[inside])(said[:, outside])
    return found


def halves(labels: np.ndarray, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two ways to split the examples in rows to fit on and rows to judge by; each row is judged once.

    Raises:
      ValueError: a class with one example, which cannot be in both.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels)
    if counts[counts > 0].min() < 2:
        raise ValueError("what is fitted on one half of the test images needs two of every class")
    folds: Any = StratifiedKFold(2, shuffle=True, random_state=seed)
    yield from folds.split(np.zeros(len(labels)), labels)


def _features(said: np.ndarray) -> np.ndarray:
    """(N, members * classes), centred in each member, as logits are up to a constant."""
    logs = np.log(np.maximum(said.astype(np.float64), SMALLEST))
    logs -= logs.mean(-1, keepdims=True)
    return logs.transpose(1, 0, 2).reshape(said.shape[1], -1)
