"""The check of a model that is to answer sequences."""

from typing import Any

import keras

from keras_moe.validation import check_contract

# Of any model that decodes; one without them all is of another kind.
_METHODS = ("encode", "start_from", "step", "generate", "answer")


def check_model(contract: type, model: Any, advice: str = "") -> None:
    """Raises `ValueError` unless a model has all that a contract asks for.

    To the user of a Keras model of another kind, the names of all that it
    lacks would say little.

    Args:
        contract: a protocol of this package.
        model: what is to decode.
        advice: for who has a model of another kind, a sentence.
    """
    if isinstance(model, keras.Model) and not any(
        callable(getattr(model, name, None)) for name in _METHODS
    ):
        received = f"Received: a {type(model).__name__} model. {advice}"
        raise ValueError(
            "`model` must decode sequences, such as `SwitchTransformer`. "
            f"{received.strip()}"
        )
    check_contract(contract, model=model)
