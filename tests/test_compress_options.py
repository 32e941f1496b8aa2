import pytest

from jaxdl.compress.options import target_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5%", 20_000),
        ("0.5 %", 2000),
        ("20kB", 20_000),
        ("20 KiB", 20_480),
        ("1.5MB", 1_500_000),
        ("300", 300),
        ("300B", 300),
    ],
)
def test_a_target_is_a_share_or_bytes(text, size):
    assert target_bytes(text, 400_000) == size


@pytest.mark.parametrize("text", ["", "%", "5 percent", "-5%", "0", "0%", "1.2.3kB", "nan", "5 gB"])
def test_what_is_no_size_is_an_error(text):
    with pytest.raises(
        ValueError, match=r"--target-size is a share or a number of bytes, such as 5%, 20kB or 20000"
    ):
        target_bytes(text, 400_000)
