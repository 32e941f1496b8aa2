from jaxdl.compress.report import frontier, kind_of
from jaxdl.compress.search import Tried


def test_the_frontier_has_what_nothing_smaller_beats():
    tried = [
        Tried("a", 30, 0.9),
        Tried("b", 10, 0.8),
        Tried("c", 20, 0.7),
        Tried("d", 20, 0.85),
        Tried("e", 40, 0.9),
    ]
    assert [one.composition for one in frontier(tried)] == ["b", "d", "a"]


def test_kinds_by_what_is_done_beside_zeros():
    kinds = {
        "int8": "zeros",
        "sparsity:0.5": "zeros",
        "units:0.5,sparsity:0.1": "units",
        "units:0.5,rank:0.5": "units, rank",
    }
    assert {text: kind_of(Tried(text, 1, 0.5)) for text in kinds} == kinds
    assert kind_of(Tried("rank:0.5,soft:0.5", 1, 0.5)) == "soft"
