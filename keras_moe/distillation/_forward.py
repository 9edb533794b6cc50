"""One forward pass that gives a model's outputs and its hidden states."""

import numbers
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras

from keras_moe.types import Tensor

# A decoder layer's number, counted from 1, or a layer's name.
LayerKey: TypeAlias = int | str
Outputs: TypeAlias = dict[str, Tensor]

OUTPUT = "final_output"


def make_forward(
    model: keras.Model, layers: Sequence[LayerKey], role: str
) -> Callable[[Any, bool | None], Outputs]:
    """Returns a function of inputs and `training`.

    It runs the model once, and gives its output, as `OUTPUT`, and the output
    of each of `layers`, under its number or name as a string.

    Args:
        model: the model.
        layers: numbers of decoder layers for a model with `exit_states` and
            `logits`; names for a Functional or Sequential model.
        role: what messages call the model.

    Raises:
        ValueError: if the model has no such layers.
    """
    for layer in layers:
        state_size(model, layer, role)
    if not layers:
        return lambda inputs, training: {
            OUTPUT: model(inputs, training=training)
        }
    if isinstance(layers[0], numbers.Integral):
        return _by_number(model, [int(layer) for layer in layers])
    outputs = {name: model.get_layer(name).output for name in layers}
    sequential = isinstance(model, keras.Sequential)
    inputs = model.inputs[0] if sequential else model.input
    # Not tracked by whoever calls it: the layers are the model's.
    extractor = keras.Model(inputs, {OUTPUT: model.outputs[0], **outputs})
    return lambda inputs, training: extractor(inputs, training=training)


def _by_number(
    model: Any, layers: list[int]
) -> Callable[[Any, bool | None], Outputs]:
    wanted = sorted({*layers, model.config.num_decoder_layers})

    def forward(inputs: Any, training: bool | None) -> Outputs:
        states = model.exit_states(inputs, wanted, training=training)
        named = {
            str(layer): state
            for layer, state in zip(wanted, states, strict=True)
        }
        return {OUTPUT: model.logits(states[-1]), **named}

    return forward


def state_size(model: Any, layer: LayerKey, role: str) -> int:
    """Returns the size of a layer's output.

    Args:
        model: the model.
        layer: a number or a name.
        role: what messages call the model.

    Raises:
        ValueError: if the model has no such layer.
    """
    if isinstance(layer, numbers.Integral):
        if not hasattr(model, "exit_states"):
            raise ValueError(
                "Decoder layers have numbers in a model with `exit_states`, "
                "such as `SwitchTransformer`; in others, give a layer's name. "
                f"Received: {role}_layer={layer} of {type(model).__name__}."
            )
        number = model.config.num_decoder_layers
        if not 1 <= layer <= number:
            raise ValueError(
                f"The {role} has the decoder layers 1 to {number}. Received: "
                f"{role}_layer={layer}."
            )
        return model.config.model_dim
    if not isinstance(layer, str):
        raise ValueError(
            f"`{role}_layer` must be the number of a decoder layer, an "
            f"integer, or the name of a layer. Received: {layer!r}."
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            "Layers have names in Functional and Sequential models that are "
            "built; what a subclassed one consists of is not known. Received: "
            f"{role}_layer={layer!r} of {type(model).__name__}."
        )
    names = [each.name for each in model.layers]
    if layer not in names:
        raise ValueError(
            f"The {role} has no layer of that name, but {names}. Received: "
            f"{role}_layer={layer!r}."
        )
    return model.get_layer(layer).output.shape[-1]
