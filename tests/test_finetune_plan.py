import dataclasses

import pytest

from jaxdl.config import ModelOptions
from jaxdl.finetune.options import FinetuneOptions
from jaxdl.finetune.plan import brought, head_of
from jaxdl.pictures import Pictures

RUN = Pictures((28, 28, 1), tuple("0123456789"), (0.13,), (0.31,))
COLOUR = Pictures((32, 32, 3), ("cat", "dog"))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelOptions("net", depth=2), {"fc3.weight", "fc3.bias"}),
        (ModelOptions("cnn"), {"fc2.weight", "fc2.bias"}),
        (ModelOptions("resnet18"), {"fc.weight", "fc.bias"}),
        (ModelOptions("vit", depth=1), {"heads.head.weight", "heads.head.bias"}),
    ],
)
def test_the_head_is_what_depends_on_the_classes(model, expected):
    assert head_of(model, RUN) == expected


def test_images_are_brought_to_the_form_of_the_source():
    seen = brought(COLOUR, RUN, FinetuneOptions(fit="resize", margin=2), "pets")
    assert seen == Pictures((28, 28, 1), ("cat", "dog"), (0.13,), (0.31,), "resize", 2)


def test_images_of_the_same_shape_need_nothing():
    same = dataclasses.replace(RUN, mean=(), std=(), classes=("a",))
    assert brought(same, RUN, FinetuneOptions(), "letters") == dataclasses.replace(RUN, classes=("a",))


def test_normalize_takes_the_new_images_numbers():
    own = dataclasses.replace(RUN, mean=(0.5,), std=(0.25,))
    assert brought(own, RUN, FinetuneOptions(), "letters").mean == (0.5,)


def test_a_file_knows_nothing_of_its_images():
    seen = brought(COLOUR, None, FinetuneOptions(), "pets")
    assert seen == COLOUR
    options = FinetuneOptions(image_shape=(64, 64, 3), fit="center", mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))
    assert brought(COLOUR, None, options, "pets").shape == (64, 64, 3)


def test_another_shape_without_a_way_is_an_error():
    with pytest.raises(ValueError, match="takes images of 28x28x1, those of pets are 32x32x3; --fit resize"):
        brought(COLOUR, RUN, FinetuneOptions(), "pets")
    with pytest.raises(ValueError, match="--margin 14 does not go with resize to 28x28"):
        brought(COLOUR, RUN, FinetuneOptions(fit="resize", margin=14), "pets")
