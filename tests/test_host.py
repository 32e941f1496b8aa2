import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {int(sys.argv[1])})
import jax
from jaxdl.engine.host import set_up
set_up()
print(jax.config.jax_compilation_cache_dir)
print(jax.jit(lambda x: x * 2)(jax.numpy.ones(3)).sum())
"""


def shown(environment, tmp_path, *argv):
    environment = {"PATH": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", SCRIPT, *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_programs_are_kept_under_the_users_cache(tmp_path):
    programs = tmp_path / ".cache" / "jaxdl" / "programs" / f"cores-{len(os.sched_getaffinity(0))}"
    folder, total = shown({}, tmp_path)
    assert folder == str(programs)
    assert total == "6.0"
    assert any(programs.iterdir())


def test_a_process_with_fewer_cores_compiles_for_itself(tmp_path):
    one = min(os.sched_getaffinity(0))
    folder, _ = shown({}, tmp_path, str(one))
    assert folder == str(tmp_path / ".cache" / "jaxdl" / "programs" / "cores-1")


@pytest.mark.parametrize(
    ("variable", "expected"), [("JAX_COMPILATION_CACHE_DIR", "elsewhere"), ("XDG_CACHE_HOME", None)]
)
def test_other_places_are_respected_and_a_bad_one_is_done_without(variable, expected, tmp_path):
    (tmp_path / "file").touch()
    value = str(tmp_path / (expected or "file"))
    folder, total = shown({variable: value}, tmp_path)
    assert folder == (value if expected else "None")
    assert total == "6.0"
