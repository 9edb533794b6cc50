"""Keras's callbacks around a loop that is not Keras's."""

from collections.abc import Sequence

import keras


def callback_list(
    callbacks: keras.callbacks.CallbackList
    | Sequence[keras.callbacks.Callback]
    | None,
    model: keras.Model,
    verbose: int | str,
    epochs: int,
    steps: int | None,
) -> keras.callbacks.CallbackList:
    """Returns what `Model.fit` makes of callbacks: with history and progress.

    Args:
        callbacks: Keras's; a list that is made already is returned as it is.
        model: what is trained.
        verbose: 0 for no progress bar.
        epochs: the epoch to end before.
        steps: batches of an epoch; `None` if it is not known.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
