import numpy as np
import pytest
from exporting import FAMILIES, assert_near, family, images

pytest.importorskip("flatbuffers")

from jaxdl.methods.export import stablehlo


@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_gives_the_same_logits_for_any_number_of_images(name, tmp_path):
    made = family(name)
    stablehlo.save(made, tmp_path / "m")
    loaded = stablehlo.load(tmp_path / "m")
    for count in (1, 5):
        assert_near(loaded.run(images(count)), made.compiled().run(images(count)))


def test_it_is_for_every_platform(tmp_path):
    from jax import export

    stablehlo.save(family("cnn"), tmp_path / "m")
    exported = export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
    assert exported.in_avals[0].dtype == np.uint8
