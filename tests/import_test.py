"""`pip install keras-moe` is enough: nothing else is imported on the way."""

import importlib
import re
import subprocess
import sys

import pytest

BLOCKED = """
import sys

BLOCKED = {
    "apache_beam",
    "grpc",
    "adjustText",
    "faiss",
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


@pytest.mark.parametrize("room", ["components", "orchestration"])
def test_a_room_of_tfx_says_where_tfx_can_be_had(room, monkeypatch):
    monkeypatch.setitem(sys.modules, "tfx", None)  # as if not installed
    monkeypatch.delitem(sys.modules, f"keras_moe.{room}", raising=False)
    said = (
        f"`keras_moe.{room}` needs TFX. Install it with "
        "`pip install keras-moe[tfx]` on Python 3.11 to 3.13"
    )
    with pytest.raises(ModuleNotFoundError, match=re.escape(said)):
        importlib.import_module(f"keras_moe.{room}")
