"""A loss of Keras as a function of labels, outputs and weights."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_moe.keras_internals import get_mask
from keras_moe.losses._replica_share import replica_share
from keras_moe.losses._replica_share import without_replica_share
from keras_moe.losses._weighted_mean import weighted_mean
from keras_moe.types import Tensor


def weighted_loss(loss: Any) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Returns `loss` as a function `(y_true, y_pred, sample_weight)`.

    Its value is that of this replica's examples: see `replica_share`.

    Args:
        loss: a loss as `compile` takes it for a model of one output: a name, a
            `keras.losses.Loss`, or a function of labels and outputs. Weights
            are given to a function that has an argument `sample_weight`;
            otherwise its values are weighted.

    Raises:
        ValueError: if there is no loss; and, when it is called with weights,
            if a function gives one value for the whole batch and cannot weigh
            its examples.
    """
    if loss is None:
        raise ValueError(
            "`compile` must be given a `loss` of (labels, logits). "
            "Received: loss=None."
        )
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        # Keras has divided by the number of replicas: undo that, since this
        # function returns the mean over this replica's examples.
        return lambda y_true, y_pred, sample_weight: (
            loss(y_true, y_pred, sample_weight) / replica_share()
        )
    weighs = "sample_weight" in inspect.signature(loss).parameters

    def weighted(y_true: Tensor, y_pred: Tensor, sample_weight: Any) -> Tensor:
        with without_replica_share():
            if weighs and sample_weight is not None:
                return loss(y_true, y_pred, sample_weight=sample_weight)
            values = loss(y_true, y_pred)
        if len(values.shape):
            mask = get_mask(y_pred)
            return weighted_mean(values, mask, sample_weight)
        if sample_weight is None:
            return values
        raise ValueError(
            "A `loss` with one value for the whole batch cannot weigh "
            "examples. Give it an argument `sample_weight`, as "
            "`keras_moe.losses.token_crossentropy` has, or let it return a "
            f"value for each. Received: loss={loss!r}."
        )

    return weighted
