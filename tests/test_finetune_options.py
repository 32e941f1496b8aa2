import subprocess
import sys

from jaxdl.config import replace, to_dict
from jaxdl.finetune.options import FinetuneConfig


def test_options_survive_the_way_through_json():
    config = replace(FinetuneConfig(), {"pretrained": "runs/a", "labels": [10, 100], "rename": ["a=b"], "lora": 2})
    assert replace(FinetuneConfig(), to_dict(config)) == config
    assert config.finetune.labels == (10, 100)


def test_help_answers_without_jax():
    code = (
        "import sys\nfrom jaxdl.finetune.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--compare-scratch" in done.stdout
