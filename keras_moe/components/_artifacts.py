"""Kinds of artifacts that TFX does not have.

No properties, and names with a space of their own: so that the compilers for
Kubeflow and Vertex accept them. What is to be known without opening a file is
in custom properties.
"""

from tfx.types.artifact import Artifact
from tfx.types.system_artifacts import Metrics


class Certificate(Artifact):
    """What a calibration grants: `certificate.json`.

    `keras_moe.calibration.Certificate.load` reads the file. The custom property
    `certificate` holds the same as text: ML Metadata would round a number to
    six decimals.
    """

    TYPE_NAME = "keras_moe.Certificate"
    TYPE_ANNOTATION = Metrics


class DataBlessing(Artifact):
    """Says that examples had no anomalies: a custom property `blessed`, 1."""

    TYPE_NAME = "keras_moe.DataBlessing"


class ExpertLoad(Artifact):
    """Where tokens go: `expert_load.png` and `expert_load.json`."""

    TYPE_NAME = "keras_moe.ExpertLoad"


class ModelCard(Artifact):
    """What a model is, learned and costs: `model_card.md`."""

    TYPE_NAME = "keras_moe.ModelCard"
