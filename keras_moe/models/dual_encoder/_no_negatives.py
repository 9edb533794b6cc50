"""Batches from which a search learns nothing."""

import warnings
from typing import Any

import keras

from keras_moe.backend import value_now
from keras_moe.types import Tensor

_MESSAGE = (
    "A batch had no negatives: the loss is 0, and nothing is learned. Batches "
    "must have more than one row, and labels that not all rows share."
)
# A model is told once.
_TOLD = "_told_of_no_negatives"


def warn_of_no_negatives(
    model: keras.Model, scores: Tensor, numbers: Tensor
) -> None:
    """Warns once a model, where it is known that there are no negatives.

    Args:
        model: that is trained or evaluated.
        scores: `[queries, candidates]`.
        numbers: int `[queries]`, of negatives of each query.
    """
    known = value_now(numbers)
    alone = tuple(scores.shape) == (1, 1)
    if alone or (known is not None and known.size and not known.any()):
        _warn(model)


class WarnOfNoNegatives(keras.callbacks.Callback):
    """Warns after the first batch, whose size a graph does not know before."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the metric of the first batch."""
        number = (logs or {}).get("in_batch_negatives")
        if batch == 0 and number is not None and float(number) == 0:
            _warn(self.model)


def _warn(model: keras.Model) -> None:
    if not getattr(model, _TOLD, False):
        setattr(model, _TOLD, True)
        warnings.warn(_MESSAGE, stacklevel=3)
