"""Fingerprints of code, for caches that look at parameters alone.

TFX re-runs a component when its inputs or parameters change; an edit of the
function that a parameter merely names goes unseen. So the fingerprint of the
code becomes a parameter. It is taken once a process: code that is edited while
a pipeline runs is not the code that runs.
"""

import functools
import hashlib
import pathlib

import keras_moe
from pipelines.g2p import phonemes
from pipelines.g2p.modules import preprocessing
from pipelines.g2p.modules import text

_LIBRARY = pathlib.Path(keras_moe.__file__).parent
_MODULES = pathlib.Path(text.__file__).parent


@functools.cache
def preprocessing_fingerprint() -> str:
    """Fingerprints what Transform runs."""
    modules = (preprocessing, text, phonemes)
    return _fingerprint([pathlib.Path(str(m.__file__)) for m in modules])


@functools.cache
def trainer_fingerprint() -> str:
    """Fingerprints what trains: the modules and the library."""
    # What evaluates, serves or draws does not change what is trained.
    apart = ("components", "serving", "visualization")
    rooms = (
        path
        for path in _LIBRARY.rglob("*.py")
        if path.relative_to(_LIBRARY).parts[0] not in apart
    )
    export = (_LIBRARY / "serving" / "exporting").rglob("*.py")
    return _fingerprint([*_MODULES.rglob("*.py"), *rooms, *export])


@functools.cache
def evaluation_fingerprint() -> str:
    """Fingerprints what Evaluator runs, the model aside."""
    return _fingerprint(_rooms("components", "metrics"))


@functools.cache
def report_fingerprint() -> str:
    """Fingerprints what RouterReport runs, the model aside."""
    return _fingerprint(
        [_MODULES / "routing.py", *_rooms("components", "visualization")]
    )


def _rooms(*names: str) -> list[pathlib.Path]:
    return [path for name in names for path in (_LIBRARY / name).rglob("*.py")]


def _fingerprint(paths: list[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        # Names relative to the project: a checkout elsewhere is the same code.
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
