"""Activations that are layers, which each owner needs for itself."""

from typing import Any

import keras

from keras_moe.serialization import serialize_sublayer
from keras_moe.types import ActivationLike
from keras_moe.types import Shape


def own_activation(activation: ActivationLike, policy: Any) -> Any:
    """Returns a function, or a layer that nobody else has.

    A layer in two places would measure both in one figure, under one name.

    Args:
        activation: what `keras.activations.get` takes, a layer included.
        policy: dtype policy of the owner, which the copy of a layer gets.
    """
    activation = keras.activations.get(activation)
    if not isinstance(activation, keras.layers.Layer):
        return activation
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        policy = policy.default_policy
    config = {**activation.get_config(), "dtype": policy}
    return type(activation).from_config(config)


def build_activation(activation: Any, shape: Shape) -> None:
    """Builds an activation that is a layer, below the layer being built."""
    if isinstance(activation, keras.layers.Layer):
        activation.build(shape)


def serialize_activation(activation: Any) -> Any:
    """Returns the config of an activation, function or layer."""
    if isinstance(activation, keras.layers.Layer):
        return serialize_sublayer(activation)
    return keras.activations.serialize(activation)
