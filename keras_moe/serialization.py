"""Registration, and configs of layers that are made of other layers."""

import keras

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
