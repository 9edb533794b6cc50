"""One file for a model on a mesh."""

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

    The file holds whole arrays, as those of `Checkpoints` do, which keeps a
    number of them, and `load_into` reads it into a model that is not on a
    mesh. An engine's method `checkpoint` makes it.

    Args:
        model: built.
        optimizer: its optimizer, if it is not compiled with one.
        writes: whether this process is the one that writes. All of them have
            to call `save`, since each has a part of the values.
        wait: returns when all processes have called it.
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
            path: of the file; what is there is replaced.
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
            # The others may read it next, and would not know of an error.
            self.wait()

    def restore(self, path: str | os.PathLike) -> Position:
        """Restores what `save` wrote.

        Args:
            path: of the file.

        Returns:
            Where the training stood.

        Raises:
            ValueError: if the model is another one. It is left as it was.
            DamagedFileError: if the file is damaged.
            FileNotFoundError: if there is none.
        """
        return load_into(path, self.model, optimizer=self.optimizer)
