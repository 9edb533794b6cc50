"""`pip install keras-moe` is enough: nothing else is imported on the way."""

import subprocess
import sys

BLOCKED = """
import sys

BLOCKED = {
    "apache_beam",
    "grpc",
    "adjustText",
    "matplotlib",
    "tensorflow_model_analysis",
    "tensorflow_serving",
    "tensorflow_text",
    "tensorflow_transform",
    "tfx",
}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import keras_moe
import keras_moe.serving

keras_moe.layers.SparseMoE(2, 4)
assert keras_moe.serving.export
assert not BLOCKED & {name.split(".")[0] for name in sys.modules}
"""


def test_the_core_needs_no_extra():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
