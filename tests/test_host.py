import subprocess
import sys

import pytest

SCRIPT = """
import jax
from jaxdl.engine.host import set_up
set_up()
print(jax.config.jax_compilation_cache_dir)
print(jax.jit(lambda x: x * 2)(jax.numpy.ones(3)).sum())
"""


def shown(environment, tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_programs_are_kept_under_the_users_cache(tmp_path):
    folder, total = shown({}, tmp_path)
    assert folder == str(tmp_path / ".cache" / "jaxdl" / "programs")
    assert total == "6.0"
    assert any((tmp_path / ".cache" / "jaxdl" / "programs").iterdir())


@pytest.mark.parametrize(
    ("variable", "expected"), [("JAX_COMPILATION_CACHE_DIR", "elsewhere"), ("XDG_CACHE_HOME", None)]
)
def test_other_places_are_respected_and_a_bad_one_is_done_without(variable, expected, tmp_path):
    (tmp_path / "file").touch()
    value = str(tmp_path / (expected or "file"))
    folder, total = shown({variable: value}, tmp_path)
    assert folder == (value if expected else "None")
    assert total == "6.0"
