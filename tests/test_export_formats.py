import importlib.util

import pytest

from jaxdl.methods.export import c, formats


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(ValueError, match=r"got onxx; did you mean onnx\?"):
        formats.chosen(("c", "onxx"))


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("onnx", "onnxruntime", "it needs onnxruntime: pip install 'jaxdl[export]'"),
        ("stablehlo", "flatbuffers", "it needs flatbuffers: pip install"),
        ("litert", "litert_converter", "pip install --no-deps litert-converter"),
        ("litert-int8", "litert_quantizer", "pip install --no-deps litert-converter litert-quantizer"),
    ],
)
def test_a_missing_package_is_named_with_its_command(name, module, command, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == module else found(asked))
    with pytest.raises(ValueError, match=name) as caught:
        formats.chosen((name,))
    assert command in str(caught.value)
    assert name not in formats.chosen(())


def test_c_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(c, "compiler", lambda: None)
    with pytest.raises(ValueError, match="it needs a C compiler"):
        formats.chosen(("c-int8",))
    assert not {"c", "c-int8"} & formats.chosen(()).keys()


def test_every_file_has_a_name_of_its_own():
    assert len({form.file for form in formats.FORMATS.values()}) == len(formats.FORMATS)
