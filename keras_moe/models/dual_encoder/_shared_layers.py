"""Layers that two encoders have in common."""

import keras

from keras_moe.keras_internals import flatten_layers
from keras_moe.types import Config


def serialize_encoders(
    query_encoder: keras.layers.Layer, document_encoder: keras.layers.Layer
) -> tuple[Config, Config | None]:
    """Returns the configs of both; `None` where the second is the first.

    Args:
        query_encoder: of a model.
        document_encoder: of a model.

    Raises:
        ValueError: if both are Functional or Sequential, and a layer with
            weights is in both. Such a model counts the calls of its layers
            when it is loaded, and takes the call of the other for its own.
    """
    serialize = keras.saving.serialize_keras_object
    if document_encoder is query_encoder:
        return serialize(query_encoder), None
    encoders = (query_encoder, document_encoder)
    shared = _shared_layers(*encoders)
    if shared and all(getattr(each, "inputs", None) for each in encoders):
        raise ValueError(
            "Keras cannot load two Functional or Sequential models that have "
            "a layer in common: give one encoder for both, or make them "
            "subclasses of `keras.Model` that serialize the layer. Received: "
            f"{shared} in both encoders."
        )
    # Keras marks an object as shared when it meets it again, in a config of
    # which it has made a copy by then. The second time each is marked at once.
    configs = [serialize(each) for each in encoders]
    if shared:
        configs = [serialize(each) for each in encoders]
    return configs[0], configs[1]


def _shared_layers(
    query_encoder: keras.layers.Layer, document_encoder: keras.layers.Layer
) -> list[str]:
    """Returns the names of layers with weights that are in both."""
    owned = {id(each) for each in flatten_layers(query_encoder) if each.weights}
    return [
        each.name
        for each in flatten_layers(document_encoder)
        if id(each) in owned
    ]
