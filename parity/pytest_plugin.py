"""A user's test suite proves its ports: the fixture ``parity``, and the marker ``parity`` on what returns a pair.

Nothing heavy is imported before a pair is proven.
"""

import inspect
from typing import TYPE_CHECKING

import pytest

from parity.pair import Pair

if TYPE_CHECKING:
    from parity.verdict import Judgement

MARKER = "parity(steps=5, seed=0): the test returns a parity.Pair, which has to be proven"


class Parity:
    """What the fixture gives."""

    def prove(self, pair: Pair, *, seed: int = 0, steps: int = 5) -> "Judgement":
        """Compares a pair in every phase.

        Args:
          pair: what to compare.
          seed, steps: as in `parity.prove.prove`.

        Returns:
          The judgement, PASS or ABSTAIN.

        Raises:
          AssertionError: the two differ, or cannot be compared; with what fails, where, why and the fix.
        """
        __tracebackhide__ = True
        from parity.report.findings import examine
        from parity.report.text import summary
        from parity.verdict import Verdict

        report = examine(pair, pair.name or "the pair", seed=seed, steps=steps)
        if report.judgement.verdict in (Verdict.FAIL, Verdict.ERROR):
            raise AssertionError(summary(report))
        return report.judgement


@pytest.fixture
def parity() -> Parity:
    """``parity.prove(pair)`` fails the test, readably, where a port is wrong."""
    return Parity()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Calls a marked test and proves what it returns; without a proof either way the test is skipped."""
    __tracebackhide__ = True
    marker = pyfuncitem.get_closest_marker("parity")
    if marker is None:
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    pair = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs})
    if not isinstance(pair, Pair):
        pytest.fail(
            f"a test marked parity returns a parity.Pair, this returned {type(pair).__name__}", pytrace=False
        )
    if marker.args or marker.kwargs.keys() - {"steps", "seed"}:
        pytest.fail("the marker parity takes steps=... and seed=..., nothing else", pytrace=False)
    try:
        judgement = Parity().prove(pair, **marker.kwargs)
    except AssertionError as error:
        pytest.fail(str(error), pytrace=False)
    if judgement.verdict.value == "ABSTAIN":
        pytest.skip("parity abstains: nothing can be proven here")
    return True
