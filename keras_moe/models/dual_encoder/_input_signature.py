"""What an exported dual encoder reads."""

from typing import Any

import keras

from keras_moe.models.dual_encoder._batch import DOCUMENT
from keras_moe.models.dual_encoder._batch import QUERY
from keras_moe.types import Tensor


def input_signature(
    query_encoder: keras.layers.Layer, document_encoder: keras.layers.Layer
) -> list[Any] | None:
    """Returns the argument of `keras.Model.export` of that name.

    Keras would know the shapes alone, from the first call, and take ids and
    strings for floats.

    Args:
        query_encoder: of the model.
        document_encoder: of the model.

    Returns:
        `None` if one of them is no Functional or Sequential model, and does
        not know what it reads.
    """
    inputs = [_inputs_of(each) for each in (query_encoder, document_encoder)]
    if any(each is None for each in inputs):
        return None
    read = dict(zip((QUERY, DOCUMENT), inputs, strict=True))
    return [keras.tree.map_structure(_spec, read)]


def _inputs_of(encoder: keras.layers.Layer) -> Any:
    if isinstance(encoder, keras.Sequential):
        return encoder.inputs[0] if encoder.inputs else None
    return getattr(encoder, "input", None)


def _spec(tensor: Tensor) -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *tensor.shape[1:]), dtype=tensor.dtype)
