"""The list of callbacks that `Model.fit` would make."""

from collections.abc import Sequence

import keras

from keras_moe.training._kept_history import KeptHistory


def callback_list(
    callbacks: keras.callbacks.CallbackList
    | Sequence[keras.callbacks.Callback]
    | None,
    model: keras.Model,
    verbose: int | str,
    epochs: int,
    steps: int | None,
) -> keras.callbacks.CallbackList:
    """Returns callbacks with those that `Model.fit` adds: history, progress.

    Args:
        callbacks: the user's callbacks. A `CallbackList` is returned as it is:
            nothing is added to it.
        model: the model that is trained.
        verbose: 0 for no progress bar.
        epochs: the epoch to end before.
        steps: batches of an epoch; `None` if it is not known.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    listed = list(callbacks or ())
    if not any(isinstance(c, keras.callbacks.History) for c in listed):
        listed.append(KeptHistory())
    return keras.callbacks.CallbackList(
        listed,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
