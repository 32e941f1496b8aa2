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
