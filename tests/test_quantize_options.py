import subprocess
import sys

from jaxdl.config import replace, to_dict
from jaxdl.quantize.options import QuantizeConfig


def test_options_survive_the_way_through_json():
    config = replace(QuantizeConfig(), {"run": "runs/a", "method": "qat", "compare": ["a", "b"], "hidden": 3})
    assert replace(QuantizeConfig(), to_dict(config)) == config


def test_help_answers_without_jax():
    code = (
        "import sys\nfrom jaxdl.quantize.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--calibration-images" in done.stdout
