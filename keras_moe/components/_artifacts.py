"""Kinds of artifacts that TFX does not have.

The types have no properties, and names with a namespace, since the compilers
for Kubeflow and Vertex accept no others. Custom properties hold what must be
known without opening a file.
"""

from tfx.types.artifact import Artifact
from tfx.types.system_artifacts import Metrics


class CandidateEmbeddings(Artifact):
    """Embeddings of candidates, a row each: `rows-*.gz`, `summary.json`.

    `keras_moe.components.read_embeddings` reads them. The custom property
    `encoder` is the digest of the model that embedded them.

    Example:

    >>> artifact = keras_moe.components.CandidateEmbeddings()
    >>> artifact.set_string_custom_property("encoder", "0f3a")
    >>> artifact.get_string_custom_property("encoder")
    '0f3a'
    """

    TYPE_NAME = "keras_moe.CandidateEmbeddings"


class Certificate(Artifact):
    """The certificate of a calibration: `certificate.json`.

    `keras_moe.calibration.Certificate.load` reads the file. The custom property
    `certificate` holds the same as text: ML Metadata would round a number to
    six decimals.

    Example:

    >>> granted = tfx.dsl.Channel(type=keras_moe.components.Certificate)
    >>> granted.type_name
    'keras_moe.Certificate'
    """

    TYPE_NAME = "keras_moe.Certificate"
    TYPE_ANNOTATION = Metrics


class DataBlessing(Artifact):
    """The examples had no anomalies: the custom property `blessed` is 1.

    Example:

    >>> artifact = keras_moe.components.DataBlessing()
    >>> artifact.set_int_custom_property("blessed", 1)
    >>> artifact.get_int_custom_property("blessed")
    1
    """

    TYPE_NAME = "keras_moe.DataBlessing"


class ExpertLoad(Artifact):
    """The experts' shares of tokens: `expert_load.png`, `expert_load.json`.

    Example:

    >>> loads = tfx.dsl.Channel(type=keras_moe.components.ExpertLoad)
    >>> loads.type_name
    'keras_moe.ExpertLoad'
    """

    TYPE_NAME = "keras_moe.ExpertLoad"


class FeatureSelection(Artifact):
    """Which features are kept: `selection.json`, `accuracy_by_features.png`.

    `keras_moe.components.read_selected_features` reads the file. The custom
    property `selected` holds their names, as a list in JSON.

    Example:

    >>> artifact = keras_moe.components.FeatureSelection()
    >>> artifact.set_string_custom_property("selected", '["fare", "miles"]')
    >>> artifact.get_string_custom_property("selected")
    '["fare", "miles"]'
    """

    TYPE_NAME = "keras_moe.FeatureSelection"
    TYPE_ANNOTATION = Metrics


class IndexReport(Artifact):
    """What an index finds, and at which cost: `tuned_index.json`.

    `keras_moe.retrieval.TunedIndex.load` reads the file. The custom property
    `recall` holds the figures as text: ML Metadata would round a number to six
    decimals.

    Example:

    >>> report = tfx.dsl.Channel(type=keras_moe.components.IndexReport)
    >>> report.type_name
    'keras_moe.IndexReport'
    """

    TYPE_NAME = "keras_moe.IndexReport"
    TYPE_ANNOTATION = Metrics


class ModelCard(Artifact):
    """A description of a model for people: `model_card.md`.

    Example:

    >>> card = tfx.dsl.Channel(type=keras_moe.components.ModelCard)
    >>> card.type_name
    'keras_moe.ModelCard'
    """

    TYPE_NAME = "keras_moe.ModelCard"
