"""Checkpoints from which a component that was killed goes on."""

import contextlib
import hashlib
import pathlib
import shutil
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from tfx.dsl.io import fileio
from tfx.utils import json_utils

from keras_moe.components.training._distiller import BASE_STUDENT
from keras_moe.serving.versions._version_folders import is_remote
from keras_moe.training import Checkpoints

_FOLDER = ".checkpoints"
_BYTES_AT_ONCE = 1 << 20


@contextlib.contextmanager
def training_checkpoints(
    fn_args: Any, every: int | None = None, keep: int = 2
) -> Iterator[Checkpoints | None]:
    """Gives the checkpoints of a `run_fn`, which a killed run left behind.

    TFX runs a component that was killed as a new execution, with new folders
    for its outputs. These checkpoints lie beside them, in a folder that bears a
    digest of all that the training depends on: parameters, and the place and
    content of each input. So a training is resumed where nothing has changed;
    where something has, what another training left is removed. The folder is
    removed when the block ends without an error: let it end when all is
    written that `run_fn` writes.

    As TFX's cache, the digest sees code only where its fingerprint is in the
    component's `custom_config`; see
    `keras_moe.orchestration.training_fingerprint`.

    Example:
    ```python
    def run_fn(fn_args):
        keras.utils.set_random_seed(0)
        model = make_model()
        with keras_moe.components.training_checkpoints(
            fn_args, every=100
        ) as checkpoints:
            trainer = keras_moe.training.Trainer(model, checkpoints)
            trainer.fit(batches_of_epoch, epochs=10)
            export(model, fn_args.serving_model_dir)
    ```

    Args:
        fn_args: TFX's `FnArgs`, of its `Trainer` or of `Distiller`.
        every: updates between two checkpoints, see `Checkpoints`.
        keep: how many are kept.

    Yields:
        The checkpoints. `None`, with a line that says so, where outputs go to
        a remote store: checkpoints are files on a local disk.
    """
    if is_remote(fn_args.model_run_dir):
        print(
            "    Training without checkpoints, which need a local disk. "
            f"Outputs go to {fn_args.model_run_dir}",
            file=sys.stderr,
        )
        yield None
        return
    folder = _component_dir(fn_args.model_run_dir) / _FOLDER
    directory = folder / _digest(fn_args)
    for other in folder.glob("*"):
        if other != directory:
            shutil.rmtree(other)
    yield Checkpoints(directory, keep, every)
    shutil.rmtree(folder, ignore_errors=True)


def _component_dir(model_run_dir: str) -> pathlib.Path:
    """Returns the folder that all executions of a component have in common."""
    run = pathlib.Path(model_run_dir)
    # TFX's own orchestrators end it with the number of the execution:
    # `Trainer/model_run/7`. Others give each component of a run a folder.
    return run.parents[1] if run.name.isdigit() else run.parent


def _digest(fn_args: Any) -> str:
    """Returns a digest of what a training depends on."""
    custom = fn_args.custom_config or {}
    parameters = {
        "custom_config": custom,
        "hyperparameters": fn_args.hyperparameters,
        "train_steps": fn_args.train_steps,
        "eval_steps": fn_args.eval_steps,
    }
    inputs = {
        "train_files": fn_args.train_files,
        "eval_files": fn_args.eval_files,
        "transform_graph": fn_args.transform_graph_path,
        "schema": fn_args.schema_path,
        "base_model": fn_args.base_model,
        BASE_STUDENT: custom.get(BASE_STUDENT),
    }
    digest = hashlib.sha256(json_utils.dumps(parameters).encode())
    for name, given in inputs.items():
        digest.update(f"\0{name}\0{given}\0".encode())
        # Numbers of executions, and so places, come again when the metadata are
        # begun anew: content alone tells other data from the same.
        for file in _files(given):
            digest.update(f"{file}\0".encode())
            digest.update(_content(file))
    return digest.hexdigest()[:32]


def _files(given: str | Iterable[str] | None) -> list[str]:
    """Returns the files of a pattern, of several, or below a directory."""
    patterns = [given] if isinstance(given, str) else list(given or ())
    found: list[str] = []
    for pattern in patterns:
        # A folder's name may hold what is special in a pattern.
        exists = fileio.exists(pattern)
        for path in [pattern] if exists else fileio.glob(pattern):
            if not fileio.isdir(path):
                found.append(path)
                continue
            for directory, _, names in fileio.walk(path):
                found += [f"{directory.rstrip('/')}/{name}" for name in names]
    return sorted(found)


def _content(file: str) -> bytes:
    digest = hashlib.sha256()
    with fileio.open(file, "rb") as opened:
        while block := opened.read(_BYTES_AT_ONCE):
            digest.update(block)
    return digest.digest()
