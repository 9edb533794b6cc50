"""Conversion of the attention layers of Keras."""

import warnings

import keras

from keras_moe.keras_internals import query_projection
from keras_moe.layers.attention._head_projections import HeadProjections
from keras_moe.types import Config

_PROJECTIONS = ("query", "key", "value", "output")
_SHARED = (
    "use_bias",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


def settings_of(layer: keras.layers.Layer) -> Config:
    """Returns the arguments of a layer with the projections of `layer`.

    Args:
        layer: a `keras.layers.MultiHeadAttention` or
            `keras.layers.GroupQueryAttention`.

    Raises:
        TypeError: if `layer` is neither.
        ValueError: if `layer` has an option that linear attention cannot serve.
    """
    if not isinstance(
        layer,
        (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention),
    ):
        raise TypeError(
            "`layer` must be a `keras.layers.MultiHeadAttention` or "
            "`keras.layers.GroupQueryAttention`. Received: layer of type "
            f"{type(layer).__name__}."
        )
    config = layer.get_config()
    _refuse(layer, config)
    if config["dropout"]:
        warnings.warn(
            f"{layer.name} drops attention weights in training, with the rate "
            f"{config['dropout']}. The converted layer has no weights of "
            "pairs, and drops none.",
            stacklevel=3,
        )
    settings = {name: config[name] for name in _SHARED}
    settings |= {name: config[name] for name in ("name", "trainable", "dtype")}
    if isinstance(layer, keras.layers.GroupQueryAttention):
        return settings | {
            "num_heads": config["num_query_heads"],
            "key_dim": config["head_dim"],
            "num_key_value_heads": config["num_key_value_heads"],
        }
    output_shape = config["output_shape"]
    return settings | {
        "num_heads": config["num_heads"],
        "key_dim": config["key_dim"],
        "value_dim": config["value_dim"],
        "output_shape": output_shape[0] if output_shape else None,
    }


def copy_projections(
    layer: keras.layers.Layer, target: HeadProjections
) -> None:
    """Builds `target` as `layer` is built, and copies the weights."""
    sources = [getattr(layer, f"_{name}_dense") for name in _PROJECTIONS]
    shapes = ((None, None, source.kernel.shape[0]) for source in sources[:3])
    query_shape, key_shape, value_shape = shapes
    target.build(query_shape, value_shape, key_shape)
    targets = (
        target.query,
        target.key,
        target.value,
        target.output_projection,
    )
    for source, copy in zip(sources, targets, strict=True):
        # `source.kernel` is a property that adds LoRA's update.
        copy.kernel.assign(source.kernel)
        if copy.bias is not None:
            copy.bias.assign(source.bias)


def _refuse(layer: keras.layers.Layer, config: Config) -> None:
    axes = config.get("attention_axes")
    output_shape = config.get("output_shape")
    problems = {
        "attention_axes": axes is not None and tuple(axes) != (1,),
        "sliding_window": config["sliding_window"] is not None,
        "use_gate": config["use_gate"],
        "output_shape": len(output_shape or (1,)) != 1,
        "dtype": layer.built and query_projection(layer).quantization_mode,
    }
    for name, refused in problems.items():
        if refused:
            raise ValueError(
                f"A layer with this `{name}` has no counterpart of linear "
                f"cost. Received: {name}={config.get(name)!r}."
            )
