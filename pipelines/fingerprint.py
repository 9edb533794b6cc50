"""Fingerprints of code, for caches that look at parameters alone.

TFX re-runs a component when its inputs or parameters change; an edit of the
function that a parameter merely names goes unseen. So the fingerprint of the
code becomes a parameter.
"""

import hashlib
import pathlib

import keras_moe
from pipelines import phonemes
from pipelines.modules import preprocessing
from pipelines.modules import text

_LIBRARY = pathlib.Path(keras_moe.__file__).parent
_MODULES = pathlib.Path(text.__file__).parent


def preprocessing_fingerprint() -> str:
    """Fingerprints what Transform runs."""
    modules = (preprocessing, text, phonemes)
    return _fingerprint([pathlib.Path(str(m.__file__)) for m in modules])


def trainer_fingerprint() -> str:
    """Fingerprints what Trainer runs: the modules and the library."""
    rooms = (
        path
        for path in _LIBRARY.rglob("*.py")
        # The metrics of the Evaluator do not change what is trained.
        if path.relative_to(_LIBRARY).parts[0] != "components"
    )
    return _fingerprint([*_MODULES.rglob("*.py"), *rooms])


def evaluation_fingerprint() -> str:
    """Fingerprints what Evaluator runs, the model aside."""
    rooms = ("components", "metrics")
    return _fingerprint(
        [path for room in rooms for path in (_LIBRARY / room).rglob("*.py")]
    )


def _fingerprint(paths: list[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        # Names relative to the project: a checkout elsewhere is the same code.
        digest.update(f"{path.parent.name}/{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
