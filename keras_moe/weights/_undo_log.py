"""Earlier values of variables, kept on disk until they are not needed."""

import tempfile

import keras
import numpy as np


class UndoLog:
    """Takes values of variables back.

    Values go to a temporary file: in memory they would be a second copy of a
    whole model.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._kept: list[tuple[keras.Variable, np.dtype, tuple[int, ...]]] = []

    def keep(self, variable: keras.Variable) -> None:
        """Keeps the value that a variable has now.

        Args:
            variable: about to be assigned.
        """
        value = np.ascontiguousarray(np.asarray(variable))
        self._file.write(value.reshape(-1).view(np.uint8).data)
        self._kept.append((variable, value.dtype, tuple(variable.shape)))

    def restore(self) -> None:
        """Gives all variables the values that were kept."""
        self._file.seek(0)
        for variable, dtype, shape in self._kept:
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            value = np.frombuffer(self._file.read(size), dtype)
            variable.assign(value.reshape(shape))

    def close(self) -> None:
        """Drops what was kept."""
        self._file.close()
