import pytest
from exporting import CLASSES, FAMILIES, assert_near, family, images

from jaxdl.methods.export import c
from jaxdl.methods.export.c_source import source
from jaxdl.methods.export.trace import trace

compiled = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def fast_to_compile(monkeypatch):
    monkeypatch.setattr(c, "FLAGS", ("-std=c11", "-O1"))


@compiled
@pytest.mark.parametrize("name", FAMILIES)
def test_the_program_of_a_model_gives_its_logits(name, tmp_path):
    made = family(name)
    c.save(trace(made, 1), CLASSES, tmp_path / "m.c")
    assert_near(c.load(tmp_path / "m.c").run(images()), made.compiled().run(images()))


@compiled
def test_colours_are_the_last_axis(tmp_path):
    made = family("cnn", (9, 8, 3))
    c.save(trace(made, 1), CLASSES, tmp_path / "m.c")
    batch = images(4, (9, 8, 3))
    assert_near(c.load(tmp_path / "m.c").run(batch), made.compiled().run(batch))


def test_only_what_is_called_is_written():
    text = source(trace(family("net"), 1), {}, CLASSES, "model.c")
    assert "static void linear(" in text
    assert "static void conv(" not in text
    assert r"a \"quoted\" one" in text or "a \\042quoted\\042 one" in text
