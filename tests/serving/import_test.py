"""`keras_moe.serving` without the `[serving]` extra."""

import pathlib
import tomllib

import pytest

import keras_moe
from keras_moe import serving
from tests import forked

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


CLIENT = """
import keras_moe
import keras_moe.serving.protocol
import sys

before = set(sys.modules)
import keras_moe.serving.client._client

new = sorted(
    name
    for name in set(sys.modules) - before
    if name.startswith("keras_moe.")
    and not name.startswith("keras_moe.serving.protocol.")
)
assert new == [
    "keras_moe.serving.client",
    "keras_moe.serving.client._client",
    "keras_moe.serving.client._connections",
    "keras_moe.serving.client._serving_error",
    "keras_moe.serving.client._values",
], new
assert not any("prometheus_client" in name for name in sys.modules)
"""


@pytest.mark.parametrize("program", [BLOCKED, CLIENT])
def test_what_is_loaded(program):
    done = forked.run_text(program)
    assert done.returncode == 0, done.stderr


def test_names():
    assert "Server" in dir(serving)
    with pytest.raises(AttributeError, match="Nothing"):
        serving.Nothing  # noqa: B018


def test_the_servers_contract_names_every_room():
    root = pathlib.Path(keras_moe.__file__).parent
    settings = tomllib.loads((root.parent / "pyproject.toml").read_text())
    (contract,) = (
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract.get("source_modules") == ["keras_moe.serving.server"]
    )
    modules = {
        path.relative_to(root).with_suffix("")
        for folder in (root, root / "serving")
        for path in folder.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    names = {f"keras_moe.{'.'.join(path.parts)}" for path in modules}
    allowed = {
        "keras_moe.__init__",
        "keras_moe.atomic_file",
        "keras_moe.serving",
        "keras_moe.serving.__init__",
        "keras_moe.serving.protocol",
        "keras_moe.serving.server",
        "keras_moe.serving.versions",
        "keras_moe.validation",
    }
    assert names - allowed == set(contract["forbidden_modules"])
