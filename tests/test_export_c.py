import subprocess

import numpy as np
import pytest
from exporting import CLASSES, family, images

from jaxdl.methods.export import c
from jaxdl.methods.export.trace import trace

pytestmark = pytest.mark.skipif(c.compiler() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    c.save(trace(family("cnn"), 1), CLASSES, folder / "model.c")
    c.build(folder / "model.c", folder / "model")
    return folder / "model"


def call(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def expected(image) -> str:
    scores = family("cnn").compiled().run(image[None])[0]
    chances = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return f"{CLASSES[scores.argmax()]} ({100 * chances.max():.1f}%)"


def test_an_image_file_is_classified_without_python(program, tmp_path):
    image = images()[0]
    path = tmp_path / "digit.pgm"
    path.write_bytes(b"P5\n# drawn by hand\n8 8\n255\n" + image.tobytes())
    assert call(program, path) == (0, f"{path}: {expected(image)}\n", "")


def test_so_are_raw_images_one_after_the_other(program, tmp_path):
    path = tmp_path / "many.raw"
    path.write_bytes(images(3).tobytes())
    status, said, _ = call(program, path)
    assert status == 0
    first, second, third = said.splitlines()
    assert first == f"{path}: {expected(images()[0])}"
    assert (second, third) == tuple(f"{path}, image {n}: {expected(images()[n - 1])}" for n in (2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"P5 9 8 255\n" + bytes(72), "expected a binary PGM (P5) of 8 x 8 pixels"),
        (b"P5 8 8 65535\n" + bytes(128), "expected a binary PGM (P5) with 255 as its largest value"),
        (b"P5 8 x\n", "expected a binary PGM (P5)"),
        (b"P5 8 8 255\n" + bytes(63), "ends before its last pixel"),
        (bytes(65), "neither a binary PGM (P5) nor raw images of 8 x 8 x 1 bytes"),
        (b"", "neither a binary PGM (P5) nor raw images"),
    ],
)
def test_another_file_is_refused_in_one_line(program, tmp_path, content, message):
    path = tmp_path / "image"
    if content is not None:
        path.write_bytes(content)
    status, said, wrong = call(program, path)
    assert (status, said) == (2, "")
    assert wrong.startswith(f"{path}: {message}")
    assert wrong.count("\n") == 1


def test_without_an_image_it_says_what_it_takes(program):
    for arguments in ((), ("--logits",), ("--repeat", "many", "image"), ("--what", "image")):
        status, _, wrong = call(program, *arguments)
        assert status == 2
        assert "IMAGE: a binary PGM of 8 x 8 pixels, or raw bytes" in wrong


def test_it_compiles_without_a_warning_and_as_a_library(program):
    strict = [c.compiler(), "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-o", "/dev/null"]
    subprocess.run([*strict, program.with_name("model.c"), "-lm"], check=True)
    subprocess.run([*strict, "-DMODEL_NO_MAIN", "-c", program.with_name("model.c")], check=True)


def test_it_measures_its_own_latency(program):
    loaded = c.load(program.with_name("model.c"))
    assert 0 < loaded.latency(images()[0]) < 1
    assert loaded.bytes == program.stat().st_size


def test_int8_takes_a_fraction_of_the_size_and_comes_near(tmp_path):
    made = family("net", (28, 28, 1))
    graph, batch = trace(made, 1), images(60, (28, 28, 1))
    c.save(graph, CLASSES, tmp_path / "m.c")
    c.save_int8(graph, CLASSES, tmp_path / "m8.c", batch)
    assert (tmp_path / "m8.c").read_text().count("linear_int8(codes") == 2
    found, wanted = c.load(tmp_path / "m8.c").run(batch), made.compiled().run(batch)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_what_the_compiler_does_not_take_is_one_line(tmp_path):
    (tmp_path / "m.c").write_text("int main(void) { return x; }\n")
    with pytest.raises(ValueError, match="failed: ") as caught:
        c.load(tmp_path / "m.c")
    assert "\n" not in str(caught.value)
