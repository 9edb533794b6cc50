"""Fingerprints of the code that components run, for TFX's cache."""

from keras_moe.orchestration import code_fingerprint
from keras_moe.orchestration import training_fingerprint

_MODULES = "pipelines.g2p.modules"


def preprocessing_fingerprint() -> str:
    """Fingerprints what Transform runs."""
    return code_fingerprint(
        f"{_MODULES}.preprocessing",
        f"{_MODULES}.text",
        "pipelines.g2p.phonemes",
    )


def trainer_fingerprint() -> str:
    """Fingerprints what trains and exports: the modules and the library."""
    return training_fingerprint(_MODULES)


def evaluation_fingerprint() -> str:
    """Fingerprints what Evaluator runs, the model aside."""
    return code_fingerprint("keras_moe.components", "keras_moe.metrics")


def report_fingerprint() -> str:
    """Fingerprints what RouterReport runs, the model aside."""
    return code_fingerprint(
        f"{_MODULES}.routing", "keras_moe.components", "keras_moe.visualization"
    )
