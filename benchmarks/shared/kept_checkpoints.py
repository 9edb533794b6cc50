"""Checkpoints from which a benchmark that was killed goes on."""

import contextlib
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from benchmarks.shared.environment import ROOT
from keras_moe.training import Checkpoints

# Where the code lies that decides what a training computes.
_CODE = ("benchmarks", "keras_moe", "pipelines")


@contextlib.contextmanager
def kept_checkpoints(
    folder: pathlib.Path,
    name: str,
    settings: Mapping[str, Any],
    every: int | None = None,
) -> Iterator[Checkpoints]:
    """Gives the checkpoints of a training, which a killed process left behind.

    They lie in a folder named after a digest of the settings and of the code:
    where either differs, training begins anew. The folder is removed when the
    block ends without an error: let it end when the results are written.

    Args:
        folder: of all trainings of the benchmark.
        name: what the training is called.
        settings: all that its losses depend on, as JSON can hold it: the
            model's config, the schedule, the seed.
        every: updates between two checkpoints, see `Checkpoints`.

    Yields:
        The checkpoints. The last but one is kept, too, in case that the last is
        damaged.
    """
    directory = folder / f"{name}-{digest({**settings, 'code': code()})}"
    # Write before training goes on: a thread would be in the clock.
    yield Checkpoints(directory, keep=2, every=every, asynchronous=False)
    shutil.rmtree(directory, ignore_errors=True)


def digest(settings: Mapping[str, Any]) -> str:
    """Returns a hash that equal settings share.

    Args:
        settings: what JSON can hold.
    """
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def code() -> str:
    """Returns a hash of this repository's code and of what it computes with."""
    found = hashlib.sha256(f"{keras.__version__} {tf.__version__}".encode())
    for folder in _CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(f"{path.relative_to(ROOT)}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()
