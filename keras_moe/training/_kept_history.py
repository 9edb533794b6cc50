"""The history of a training, before an interruption and after it."""

from typing import Any

import keras
import numpy as np


class KeptHistory(keras.callbacks.History):
    """Keras's `History`, whose values checkpoints keep.

    A resumed training goes on with the values of the epochs before.

    Example:

    >>> from keras_moe.training._kept_history import KeptHistory
    >>> history = KeptHistory()
    >>> history.set_state({"epoch": [0], "history": {"loss": [0.5]}})
    >>> history.on_train_begin()
    >>> history.epoch, history.history
    ([0], {'loss': [0.5]})
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Keeps what was restored, where Keras's begins anew."""

    def get_state(self) -> dict[str, Any]:
        """Returns epochs and values, as plain numbers and lists."""
        values = {
            name: [np.asarray(each).tolist() for each in column]
            for name, column in self.history.items()
        }
        return {"epoch": list(self.epoch), "history": values}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` returned."""
        self.epoch = list(state["epoch"])
        self.history = {k: list(v) for k, v in state["history"].items()}
