import pytest

from jaxdl.gan.options import GanOptions, check


def test_the_defaults_are_in_their_ranges():
    check(GanOptions())


@pytest.mark.parametrize("options", [{"width": 0}, {"latent": 0}, {"confidence": -0.1}, {"judged": 0}], ids=str)
def test_a_number_outside_its_range_is_named(options):
    with pytest.raises(ValueError, match=f"--{next(iter(options))} must"):
        check(GanOptions(**options))
