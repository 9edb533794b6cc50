"""`keras_moe.serving` without the `[serving]` extra."""

import subprocess
import sys

import pytest

from keras_moe import serving

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("grpc", "tensorflow_serving"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import keras_moe.serving as serving
for name in ("Server", "Client", "write_warmup_requests"):
    try:
        getattr(serving, name)
    except ImportError as error:
        assert "pip install keras-moe[serving]" in str(error), error
    else:
        raise SystemExit(f"{name} loaded")
assert serving.ServingError
"""


def test_without_the_extra():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_names():
    assert "Server" in dir(serving)
    with pytest.raises(AttributeError, match="Nothing"):
        serving.Nothing  # noqa: B018
