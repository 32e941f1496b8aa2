import numpy as np
import pytest
from exporting import assert_near, family, images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_converter")


@pytest.mark.parametrize("name", ["net", "cnn", "resnet", "vit"])
def test_the_file_gives_the_same_logits(name, tmp_path):
    from jaxdl.methods.export import litert

    made = family(name)
    litert.save(made, tmp_path / "m.tflite")
    assert_near(litert.load(tmp_path / "m.tflite").run(images(3)), made.compiled().run(images(3)))


def test_it_writes_nothing_to_the_screen(tmp_path, capfd):
    from jaxdl.methods.export import litert

    litert.save(family("net"), tmp_path / "m.tflite")
    litert.load(tmp_path / "m.tflite")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["net", "cnn", "resnet", "vit"])
def test_int8_comes_near_in_a_smaller_file(name, tmp_path, capfd):
    pytest.importorskip("litert_quantizer")
    from jaxdl.methods.export import litert

    made = family(name)
    litert.save_int8(made, tmp_path / "m.tflite", images(40))
    found, expected = litert.load(tmp_path / "m.tflite").run(images(3)), made.compiled().run(images(3))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert capfd.readouterr() == ("", "")
