"""A checkpoint of a model on a mesh, in one file."""

import os
import pathlib
from collections.abc import Callable

import keras

from keras_moe.atomic_file import atomic_file
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._checkpoint_file import capture
from keras_moe.training.checkpoints._checkpoint_file import load_into
from keras_moe.training.checkpoints._position import Position


class ShardedCheckpoint:
    """Saves a model from any devices, and restores it to any others.

    The file holds whole arrays, as the files of `Checkpoints` do: `load_into`
    reads it into a model that is not on a mesh. An engine's method
    `checkpoint` makes a `ShardedCheckpoint`.

    Args:
        model: built.
        optimizer: the model's optimizer, if it is not compiled with one.
        writes: whether this process writes the file. All processes must call
            `save`, since each has a part of the values.
        wait: a function that returns when all processes have called it.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer | None = None,
        writes: bool = True,
        wait: Callable[[], None] = lambda: None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.writes = writes
        self.wait = wait

    def save(
        self, path: str | os.PathLike, position: Position | None = None
    ) -> None:
        """Writes all that training changes to a file, whole or not at all.

        Args:
            path: path of the file, which replaces one that is there.
            position: where the training stands.

        Raises:
            ValueError: if a value is NaN or infinite.
        """
        state, header = capture(
            self.model, position or Position(), optimizer=self.optimizer
        )
        try:
            if self.writes:
                with atomic_file(pathlib.Path(path)) as partial:
                    write_arrays(partial, state, header)
        finally:
            # Other processes may read the file next: let them wait for it. If
            # writing failed, they must not wait for ever.
            self.wait()

    def restore(self, path: str | os.PathLike) -> Position:
        """Restores the model from a file of `save`.

        Args:
            path: path of the file.

        Returns:
            Where the training stood.

        Raises:
            ValueError: if the model is another one. It is left as it was.
            DamagedFileError: if the file is damaged.
            FileNotFoundError: if there is no file.
        """
        return load_into(path, self.model, optimizer=self.optimizer)
