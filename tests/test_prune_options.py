import pytest

from jaxdl.prune.options import PruneOptions, amount_of


def test_the_amount_depends_on_what_is_pruned():
    assert amount_of(PruneOptions()) == 0.9
    assert amount_of(PruneOptions(structure="units")) == 0.6
    assert amount_of(PruneOptions(structure="2:4")) == 0.5
    assert amount_of(PruneOptions(amount=0.0)) == 0


@pytest.mark.parametrize("amount", [-0.1, 1.0, 7.0, float("nan")])
def test_an_amount_is_a_share(amount):
    with pytest.raises(ValueError, match=r"--amount is a share from 0 to below 1; got"):
        amount_of(PruneOptions(amount=amount))


def test_a_pattern_says_the_amount():
    with pytest.raises(ValueError, match=r"--amount has no meaning for 2:4, which takes half; got 0.5"):
        amount_of(PruneOptions(structure="2:4", amount=0.5))
