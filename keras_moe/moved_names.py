"""Names that moved to another room, for one version under the old name, too."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

# Old room to old name to the room and the name of today.
MOVED = {
    "keras_moe.calibration": {
        "fingerprint": "keras_moe.weights.fingerprint",
    },
    "keras_moe.components": {
        "newest_version": "keras_moe.serving.newest_version",
        "push_version": "keras_moe.serving.push_version",
    },
    "keras_moe.distribution": {
        "Checkpoints": "keras_moe.training.Checkpoints",
        "DamagedFileError": "keras_moe.training.DamagedFileError",
        "Position": "keras_moe.training.Position",
        "Trainer": "keras_moe.training.Trainer",
        "WorkerLostError": "keras_moe.training.WorkerLostError",
        "build_state": "keras_moe.training.build_state",
        "load_into": "keras_moe.training.load_into",
        "name_nonfinite": "keras_moe.training.name_nonfinite",
        "named_variables": "keras_moe.weights.named_state",
    },
    "keras_moe.metrics": {
        "phoneme_error_rate": "keras_moe.metrics.symbol_error_rate",
        "word_error_rate": "keras_moe.metrics.sequence_error_rate",
    },
    "keras_moe.models": {
        "EarlyExitTrainer": "keras_moe.training.EarlyExitTrainer",
        "ExitClassifierTrainer": "keras_moe.training.ExitClassifierTrainer",
    },
}


def find_moved(room: str) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a room that names have left.

    Args:
        room: the old one, `__name__` in its `__init__.py`.

    Returns:
        A function from an old name to what it names today. The function warns
        with both names, and raises `AttributeError` for any other name.
    """

    def find(name: str) -> Any:
        today = MOVED[room].get(name)
        if today is None:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        warnings.warn(
            f"`{room}.{name}` is now `{today}`; the old name goes with "
            "version 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        place, _, name_today = today.rpartition(".")
        return getattr(importlib.import_module(place), name_today)

    return find
