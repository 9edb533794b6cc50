"""One forward pass that gives a model's logits and hidden states by name."""

import numbers
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras

from keras_moe.generation import Exiting
from keras_moe.types import Tensor

# A decoder layer's number, counted from 1, or a layer's name.
LayerKey: TypeAlias = int | str
NamedOutputs: TypeAlias = dict[str, Tensor]

LOGITS = "logits"


def hidden_state(layer: LayerKey) -> str:
    """Returns the name under which the output of a layer is given."""
    # The prefix keeps a layer that is itself called "logits" apart.
    return f"hidden_state/{layer}"


def make_forward(
    model: keras.Model, layers: Sequence[LayerKey], role: str
) -> Callable[[Any, bool | None], NamedOutputs]:
    """Returns a function of inputs and `training` that runs the model once.

    Its result has the model's output as `LOGITS`, and the output of each of
    `layers` under the name that `hidden_state` gives.

    Args:
        model: the model.
        layers: numbers of decoder layers for a `keras_moe.generation.Exiting`;
            names for a Functional or Sequential model.
        role: how messages call the model, `"teacher"` or `"student"`.

    Raises:
        ValueError: if the model has no such layers.
    """
    for layer in layers:
        state_size(model, layer, role)
    if not layers:
        return lambda inputs, training: {
            LOGITS: model(inputs, training=training)
        }
    if isinstance(layers[0], numbers.Integral):
        return _by_number(model, [int(layer) for layer in layers])
    states = {
        hidden_state(name): model.get_layer(name).output for name in layers
    }
    sequential = isinstance(model, keras.Sequential)
    inputs = model.inputs[0] if sequential else model.input
    # A local name, since Keras would track an attribute: the distiller would
    # then hold the student's layers twice, and the teacher's at all.
    extractor = keras.Model(inputs, {LOGITS: model.outputs[0], **states})
    return lambda inputs, training: extractor(inputs, training=training)


def _by_number(
    model: Exiting, layers: list[int]
) -> Callable[[Any, bool | None], NamedOutputs]:
    wanted = sorted({*layers, model.config.num_decoder_layers})

    def forward(inputs: Any, training: bool | None) -> NamedOutputs:
        states = model.exit_states(inputs, wanted, training=training)
        named = {
            hidden_state(layer): state
            for layer, state in zip(wanted, states, strict=True)
        }
        return {LOGITS: model.logits(states[-1]), **named}

    return forward


def state_size(model: keras.Model, layer: LayerKey, role: str) -> int:
    """Returns the size of a layer's output.

    Args:
        model: the model.
        layer: a number or a name.
        role: how messages call the model, `"teacher"` or `"student"`.

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
            "built; the parts of a subclassed one are not known. Received: "
            f"{role}_layer={layer!r} of {type(model).__name__}."
        )
    names = [each.name for each in model.layers]
    if layer not in names:
        raise ValueError(
            f"The {role} has no layer of that name, but {names}. Received: "
            f"{role}_layer={layer!r}."
        )
    return model.get_layer(layer).output.shape[-1]
