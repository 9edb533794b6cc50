"""The states of callbacks, as a checkpoint holds them."""

import json
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import keras


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback whose state is kept with the model's.

    Example:

    >>> class Count(keras.callbacks.Callback):
    ...     batches = 0
    ...     def on_train_batch_end(self, batch, logs=None):
    ...         self.batches += 1
    ...     def get_state(self):
    ...         return {"batches": self.batches}
    ...     def set_state(self, state):
    ...         self.batches = state["batches"]
    >>> from keras_moe.training.checkpoints._callback_states import (
    ...     StatefulCallback,
    ... )
    >>> isinstance(Count(), StatefulCallback)
    True
    """

    def get_state(self) -> dict[str, Any]:
        """Returns what to keep, in types that JSON has."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` returned."""


def get_callback_states(
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, dict[str, Any]]:
    """Returns the states of those callbacks that have one.

    Args:
        callbacks: of any kind.

    Returns:
        Name to state. The name is that of the class, with a number where there
        are several of it.

    Raises:
        ValueError: if a state holds what JSON has not.
    """
    states = {}
    for name, callback in _named(callbacks):
        state = callback.get_state()
        try:
            # A copy: it is written later, while the callback goes on.
            states[name] = json.loads(json.dumps(state))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`get_state` of a callback must return what JSON can hold. "
                f"Received: {state!r} from {name}: {error}."
            ) from error
    return states


def set_callback_states(
    callbacks: Sequence[keras.callbacks.Callback],
    states: Mapping[str, dict[str, Any]],
) -> None:
    """Gives callbacks their states back.

    Args:
        callbacks: of any kind. One that has no state there stays as it is.
        states: what `get_callback_states` returned.
    """
    for name, callback in _named(callbacks):
        if name in states:
            callback.set_state(states[name])


def _named(
    callbacks: Sequence[keras.callbacks.Callback],
) -> Iterator[tuple[str, StatefulCallback]]:
    seen: dict[str, int] = {}
    for callback in callbacks:
        if isinstance(callback, StatefulCallback):
            name = type(callback).__name__
            number = seen[name] = seen.get(name, 0) + 1
            yield (name if number == 1 else f"{name}_{number}"), callback
