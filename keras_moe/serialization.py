"""Registration, and configs of layers that are made of other layers."""

import re

import keras

from keras_moe.keras_internals import flatten_layers
from keras_moe.types import Config


def register(cls: type) -> type:
    """Registers a class for saving, under the name `keras_moe>Name`."""
    return keras.saving.register_keras_serializable(package="keras_moe")(cls)


def serialize_sublayer(layer: keras.layers.Layer) -> Config:
    """Returns the config of a layer that another one owns.

    Keras would note the shapes it was built with and build it on loading,
    outside its owner and thus under another path; the owner builds it.
    """
    config = keras.saving.serialize_keras_object(layer)
    config.pop("build_config", None)
    return config


def deserialize_sublayers(config: Config, *names: str) -> Config:
    """Returns a copy of `config` with the named sublayers made."""
    made = {
        name: keras.saving.deserialize_keras_object(config[name])
        for name in names
    }
    return {**config, **made}


def quantized_dtype(layer: keras.layers.Layer) -> Config:
    """Returns the `"dtype"` of a config whose layer makes sublayers itself.

    Keras quantises sublayers one by one and leaves their owner's policy as it
    is; the owner, made from its config, would make them float again, and
    saved weights would not fit. Where none is quantised, the result is empty.
    """
    policies = {}
    for sublayer in flatten_layers(layer, include_self=False):
        if sublayer.quantization_mode is not None:
            # The layer may lie in another model when it is made again: any path
            # may lead to it.
            below = sublayer.path.removeprefix(layer.path)
            pattern = rf"(?:.*/)?{re.escape(layer.name + below)}"
            policies[pattern] = _own_policy(sublayer)
    if not policies:
        return {}
    policy_map = keras.dtype_policies.DTypePolicyMap(
        _own_policy(layer), policies
    )
    return {"dtype": keras.dtype_policies.serialize(policy_map)}


def sublayer_dtype(
    owner: keras.layers.Layer, name: str
) -> keras.dtype_policies.DTypePolicy:
    """Returns the policy for `owner` to make its sublayer `name` with.

    It is the owner's, unless the owner was loaded with quantised sublayers. A
    core layer that is handed the map of all policies would not save.
    """
    policy = owner.dtype_policy
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return policy[f"{owner.path or owner.name}/{name}"]
    return policy


def _own_policy(layer: keras.layers.Layer) -> keras.dtype_policies.DTypePolicy:
    policy = layer.dtype_policy
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return policy[layer.path]
    return policy
