"""The SavedModel that embeds: which one it is, and whether it can."""

import hashlib
import os

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from keras_moe.components.gates._example_signature import (
    check_example_signature,
)
from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import VARIABLES_INDEX

# The custom property that names the model of embeddings.
ENCODER = "encoder"


def encoder_path(model: list[types.Artifact]) -> str:
    """Returns the directory of the SavedModel in an artifact."""
    uri = artifact_utils.get_single_uri(model)
    return path_utils.serving_model_path(uri)


def encoder_digest(path: str) -> str:
    """Returns a digest of a SavedModel: its graph, and its weights' checksums.

    Args:
        path: Of its directory, in any store.
    """
    digest = hashlib.sha256()
    for name in (SAVED_MODEL, VARIABLES_INDEX):
        file = os.path.join(path, name)
        content = _read(file) if fileio.exists(file) else b""
        # The length goes before: two splits of the same bytes are told apart.
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def check_signature(path: str, name: str, output: str = "embedding") -> None:
    """Raises `ValueError` unless a signature answers serialized examples.

    Args:
        path: Of the SavedModel's directory.
        name: Of the signature.
        output: The output that it must have.
    """
    model = saved_model_pb2.SavedModel.FromString(
        _read(os.path.join(path, SAVED_MODEL))
    )
    (meta_graph,) = model.meta_graphs
    if name not in meta_graph.signature_def:
        found = ", ".join(sorted(meta_graph.signature_def))
        raise ValueError(
            f"`signature_name` must be a signature of the model: {found}. "
            f"Received: signature_name={name!r}."
        )
    signature = meta_graph.signature_def[name]
    if output not in signature.outputs:
        raise ValueError(
            f"The signature {name!r} must have an output `{output}`. "
            f"Received: {', '.join(sorted(signature.outputs))}."
        )
    dtypes = [given.dtype for given in signature.inputs.values()]
    if dtypes != [tf.string.as_datatype_enum]:
        raise ValueError(
            f"The signature {name!r} must take serialized examples alone. "
            f"Received: {', '.join(sorted(signature.inputs))}."
        )
    check_example_signature(meta_graph, name)


def _read(path: str) -> bytes:
    with fileio.open(path, "rb") as file:
        return file.read()
