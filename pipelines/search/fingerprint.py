"""Fingerprints of the code that components run, for TFX's cache."""

from keras_moe.orchestration import code_fingerprint
from keras_moe.orchestration import training_fingerprint

_TRAINED = ("pipelines.search.modules", "pipelines.search.model")


def trainer_fingerprint() -> str:
    """Fingerprints what trains, exports and searches."""
    return training_fingerprint(*_TRAINED)


def evaluation_fingerprint() -> str:
    """Fingerprints what Evaluator runs, the model aside."""
    return code_fingerprint("keras_moe.components")
