import pytest

from jaxdl.engine import table


def test_names_stand_left_and_numbers_right():
    assert table.lines(["", "accuracy"], [["teacher", "99.4%"], ["student alone", "9%"]]) == [
        "               accuracy",
        "teacher           99.4%",
        "student alone        9%",
    ]


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="argument 2 is"):
        table.lines(["a", "b"], [["1"]])
