"""From a trained model to what embeds candidates, and to what is served."""

import os
from typing import Any

import tensorflow as tf

from keras_moe import serving
from keras_moe.components import written_locally
from keras_moe.model_folder import KERAS_MODEL
from keras_moe.models import DualEncoder
from pipelines.search.modules.features import DOCUMENT
from pipelines.search.modules.features import GLOSS
from pipelines.search.modules.features import OK
from pipelines.search.modules.features import QUERY
from pipelines.search.modules.features import status_of

EMBED_CANDIDATES = "embed_candidates"

_WARMUP_QUERIES = ("a pet that barks", "to move through water")


def export_encoder(model: DualEncoder, directory: str | os.PathLike) -> None:
    """Writes what `CandidateEmbedder` calls, and the Keras model beside it.

    Args:
        model: trained.
        directory: where to write, here or in a remote store.
    """
    text = tf.io.FixedLenFeature([], tf.string)

    def embed(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        documents = tf.io.parse_example(examples, {DOCUMENT: text})[DOCUMENT]
        return {"embedding": model.encode_documents(documents)}

    examples = tf.TensorSpec([None], tf.string, name="examples")
    with written_locally(directory) as local:
        serving.export_endpoints(
            local,
            {EMBED_CANDIDATES: (embed, [examples])},
            assets={KERAS_MODEL.name: model.save},
        )


def export_search(
    model: DualEncoder,
    index: Any,
    directory: str | os.PathLike,
    default_k: int,
) -> None:
    """Writes what is served: queries in, synsets out.

    Args:
        model: trained.
        index: with all synsets.
        directory: where to write, a local one.
        default_k: how many answers a request has that does not say.
    """

    def encode(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        status = status_of(texts)
        # Of a text that is refused nothing is read, however long it is.
        read = tf.where(tf.equal(status, OK), texts, "")
        return {"embedding": model.encode_queries(read), "status": status}

    serving.export_search(
        directory,
        encode,
        index,
        default_k,
        input_name=QUERY,
        example_key=GLOSS,
    )
    serving.write_page(directory, _page(default_k))
    serving.write_warmup_requests(
        directory,
        [
            ("serving_default", {QUERY: [_WARMUP_QUERIES[0]]}),
            ("serving_default", {QUERY: list(_WARMUP_QUERIES)}),
        ],
    )


def _page(default_k: int) -> dict[str, Any]:
    """Returns what the page on which people search says."""
    return {
        "title": "Words by their meaning",
        "description": (
            "Describe what a word means: the search finds it in WordNet by "
            "its meaning, not by its letters."
        ),
        "signatures": ["search"],
        "inputs": {
            QUERY: {
                "label": "Meaning",
                "hint": "As in a dictionary: the more it says, the better",
                "example": "a building where books are kept",
            },
            "k": {
                "label": "Answers",
                "hint": "How many words to show",
                "example": default_k,
            },
        },
        "outputs": {
            "identifiers": {"label": "Words", "scores": "scores"},
            "status": {"label": "Remark", "hidden_when": OK},
        },
    }
