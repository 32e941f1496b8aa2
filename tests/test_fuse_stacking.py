import numpy as np
import pytest

from jaxdl.methods.fuse import ensemble, stacking

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 300)


def member(sure, shift=0):
    """Probabilities that favour the label, or the class ``shift`` behind it."""
    logits = RNG.normal(size=(300, 3))
    logits[np.arange(300), (LABELS + shift) % 3] += sure
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_a_combiner_learns_whom_to_trust_and_how():
    """One member guesses, one is right, one always means the next class: the combiner sees through that."""
    said = np.stack([member(0), member(2), member(4, shift=1)])
    mean = ensemble.scores(said.mean(0), LABELS)[0]
    stacked = ensemble.scores(stacking.crossed(stacking.combiner, said, LABELS), LABELS)[0]
    assert mean < 0.4
    assert stacked > 0.95


def test_nothing_is_learned_where_there_is_nothing_to_learn():
    """A combiner that had seen the answers would score above chance."""
    said = np.stack([member(0) for _ in range(20)])
    accuracy = ensemble.scores(stacking.crossed(stacking.combiner, said, LABELS), LABELS)[0]
    assert 0.22 < accuracy < 0.45


def test_every_example_is_judged_once_and_by_the_other_half():
    seen = np.zeros(300, int)
    for inside, outside in stacking.halves(LABELS):
        assert not set(inside) & set(outside)
        assert len(inside) == len(outside) == 150
        seen[outside] += 1
    assert (seen == 1).all()


def test_a_class_without_examples_is_an_error():
    with pytest.raises(ValueError, match="needs images of every class to fit on; there is none of class 2"):
        stacking.combiner(np.stack([member(1)[:6]]), np.array([0, 1, 0, 1, 0, 1]))
    with pytest.raises(ValueError, match="needs two of every class"):
        next(stacking.halves(np.array([0, 0, 1])))
