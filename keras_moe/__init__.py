"""Mixture-of-experts parts for Keras 3 and TFX."""

import importlib
from typing import Any

# `start_up` comes first: it imports Keras and its backend sooner than others
# would, and without messages if `KERAS_MOE_QUIET` is set.
from keras_moe import start_up as start_up

# isort: split
from keras_moe import calibration as calibration
from keras_moe import conversion as conversion
from keras_moe import data as data
from keras_moe import distillation as distillation
from keras_moe import distribution as distribution
from keras_moe import generation as generation
from keras_moe import layers as layers
from keras_moe import losses as losses
from keras_moe import metrics as metrics
from keras_moe import models as models
from keras_moe import ops as ops
from keras_moe import optimizers as optimizers
from keras_moe import retrieval as retrieval
from keras_moe import serving as serving
from keras_moe import training as training
from keras_moe import visualization as visualization
from keras_moe import weights as weights
from keras_moe.version import __version__ as __version__

# Kubeflow imports the class of an artifact by its `TYPE_NAME`, such as
# `keras_moe.Certificate`.
_ARTIFACTS = (
    *("CandidateEmbeddings", "Certificate", "DataBlessing"),
    *("ExpertLoad", "IndexReport", "ModelCard"),
)


def __getattr__(name: str) -> Any:
    """Imports what needs the extra [tfx] when it is asked for: it is slow."""
    if name in ("components", "orchestration"):
        return importlib.import_module(f"keras_moe.{name}")
    if name in _ARTIFACTS:
        artifacts = importlib.import_module("keras_moe.components._artifacts")
        return getattr(artifacts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
