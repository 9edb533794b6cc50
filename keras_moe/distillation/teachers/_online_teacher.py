"""A teacher that grows with its student."""

import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from keras_moe.distillation.teachers._cached_teacher import CachedTeacher


class OnlineTeacher(keras.callbacks.Callback):
    """Walks the teacher of a distiller through checkpoints of its training.

    Online distillation: the student follows a teacher that was itself learning,
    from targets that are easy to those that are not. Beside it stands a simpler
    way, which was better where both were measured: one good early checkpoint
    for the whole training, chosen on validation data (see the guide on data,
    and `keras_moe.metrics.supervision_complexity`).

    The epoch alone says which checkpoint it is: a training that is resumed goes
    on with the right one. The weights are loaded at the start of an epoch;
    after the training, the teacher is the last one it was. Where another begins
    with the same callback, the teacher is again as the first was given it; its
    weights are kept for that, unless a checkpoint teaches from epoch 0 on.

    Source: [Harutyunyan et al., 2023](https://arxiv.org/abs/2301.12245),
    section 4.

    Args:
        checkpoints: for the epoch from which on it teaches, counted from 0,
            the path of a file that `teacher.save_weights` wrote. Before the
            first of these epochs, the teacher is as it was given.

    Raises:
        ValueError: if an epoch is no integer of at least 0, or a file is
            missing; when training begins, if the model has no teacher with
            weights.

    Example:

    >>> teacher, student = (
    ...     keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    ...     for _ in range(2)
    ... )
    >>> teacher.save_weights(f"{directory}.weights.h5")
    >>> distiller = keras_moe.distillation.SparseToDenseDistiller(
    ...     teacher, student
    ... )
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss)
    >>> online = keras_moe.distillation.OnlineTeacher(
    ...     {0: f"{directory}.weights.h5"}
    ... )
    >>> x, y = np.random.rand(6, 8), np.arange(6) % 3
    >>> history = distiller.fit(x, y, callbacks=[online], verbose=0)
    """

    def __init__(self, checkpoints: Mapping[int, str | pathlib.Path]):
        super().__init__()
        if not checkpoints:
            raise ValueError("`checkpoints` must hold one. Received: none.")
        for epoch, path in checkpoints.items():
            if isinstance(epoch, bool) or not isinstance(epoch, int):
                raise ValueError(_no_epoch(epoch))
            if epoch < 0:
                raise ValueError(_no_epoch(epoch))
            if not pathlib.Path(path).is_file():
                raise ValueError(
                    "`checkpoints` must be files that `save_weights` wrote. "
                    f"Received: checkpoints[{epoch}]={path}, which is none."
                )
        self.checkpoints = {
            epoch: pathlib.Path(checkpoints[epoch])
            for epoch in sorted(checkpoints)
        }
        self._loaded: pathlib.Path | None = None
        # The teacher whose weights were replaced, and what they were.
        self._given: tuple[keras.Model, list[np.ndarray]] | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Gives a teacher the weights it came with.

        Refuses a model whose teacher has no weights to load.
        """
        teacher = getattr(self.model, "teacher", None)
        if teacher is None or isinstance(teacher, CachedTeacher):
            raise ValueError(
                "`OnlineTeacher` is for a distiller whose teacher has weights. "
                f"Received: {type(self.model).__name__} with the teacher "
                f"{teacher!r}."
            )
        self._loaded = None
        if self._given is not None and self._given[0] is teacher:
            teacher.set_weights(self._given[1])
        self._given = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Loads the checkpoint that teaches in this epoch."""
        due = [
            path for first, path in self.checkpoints.items() if first <= epoch
        ]
        if due and due[-1] != self._loaded:
            teacher = self.model.teacher
            if self._loaded is None and 0 not in self.checkpoints:
                self._given = teacher, teacher.get_weights()
            teacher.load_weights(due[-1])
            self._loaded = due[-1]


def _no_epoch(epoch: object) -> str:
    return (
        "`checkpoints` must have integers of at least 0, the epochs from which "
        f"on each teaches. Received: {epoch!r}."
    )
