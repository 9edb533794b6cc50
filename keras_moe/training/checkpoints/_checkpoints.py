"""The checkpoints of a training, saved and restored."""

import os
import pathlib
import re
import threading
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_moe.atomic_file import atomic_file
from keras_moe.atomic_file import remove_partial_files
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._checkpoint_file import capture
from keras_moe.training.checkpoints._checkpoint_file import load_into
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.training.checkpoints._position import Position
from keras_moe.training.checkpoints._retention import Retention
from keras_moe.validation import check_size

_NAME = re.compile(r"checkpoint-(\d{8,})\.h5")


class Checkpoints:
    """The checkpoints of a training in a directory.

    A checkpoint is one file that holds the weights, the optimizer, the states
    of metrics, routers, random seeds and callbacks, and the position in the
    data. It appears complete, under its final name, or not at all. Values are
    whole arrays under names that are the same in every process
    (`named_state`): it may be restored on other devices, split otherwise, or by
    another backend than it was saved on.

    Where several processes train together, let one of them save.

    Weights for serving, on one device: make the model without `compile`, then
    `Checkpoints(directory).restore_best(model)` or `load_into(path, model)`,
    then `model.save("model.keras")`.

    Args:
        directory: directory of the files, on a local disk; made when the first
            is saved.
        keep: how many of the last are kept. The best is kept besides.
        every: updates between two checkpoints of `Trainer`; `None` to save
            after each epoch alone.
        monitor: name of the metric that tells which is the best; `None` for
            none.
        mode: `"min"` if small values of it are good, `"max"` if large ones.
        asynchronous: writes on a thread, while training goes on. The next
            `save` waits for that thread, and raises the error that it met.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_moe.training import Checkpoints
    >>> from keras_moe.training import Position
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> model.compile("adam", "mse")
    >>> checkpoints = Checkpoints(directory, keep=1, monitor="val_loss")
    >>> for step, loss in enumerate([3.0, 1.0, 2.0]):
    ...     position = Position(batch=step, step=step)
    ...     checkpoints.save(model, position, {"val_loss": loss})
    >>> checkpoints.wait()
    >>> [path.name for path in checkpoints.paths]
    ['checkpoint-00000002.h5', 'checkpoint-00000003.h5']
    >>> checkpoints.restore(model)
    Position(epoch=0, batch=2, step=2, skipped=())
    >>> checkpoints.restore_best(model).step
    1
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        keep: int = 3,
        every: int | None = None,
        monitor: str | None = None,
        mode: str = "min",
        asynchronous: bool = True,
    ):
        check_size(every=every)
        self.directory = pathlib.Path(directory)
        self.every = every
        self.retention = Retention(keep, monitor, mode)
        self.asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        remove_partial_files(self.directory)

    @property
    def paths(self) -> tuple[pathlib.Path, ...]:
        """The files on the disk, in the order they were saved."""
        found = [
            (int(match[1]), path)
            for path in self.directory.glob("checkpoint-*.h5")
            if (match := _NAME.fullmatch(path.name))
        ]
        return tuple(path for _, path in sorted(found))

    @property
    def latest(self) -> pathlib.Path | None:
        """The last file on the disk; `None` if there is none."""
        return self.paths[-1] if self.paths else None

    @property
    def best(self) -> pathlib.Path | None:
        """The file of the best `monitor`; of equals the first.

        `None` without `monitor`, or if no file on the disk has it.
        """
        ranked = self.retention.ranked(self.paths)
        return ranked[0] if ranked else None

    def are_due(self, step: int, updates: int) -> bool:
        """Says whether the last updates passed or met a multiple of `every`.

        Args:
            step: updates made so far.
            updates: how many of them the last call into TensorFlow made.
        """
        if self.every is None:
            return False
        return step // self.every > (step - updates) // self.every

    def save(
        self,
        model: keras.Model,
        position: Position,
        metrics: Mapping[str, float] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        """Copies all values to the host, then writes them.

        Args:
            model: built. Its values are copied at once: training may go on.
            position: where the training stands.
            metrics: name to value, to be kept with it.
            callbacks: the states of those that have `get_state` and
                `set_state` are kept, too; see `Trainer`.

        Raises:
            ValueError: if the model is not built, a weight or a value of the
                optimizer is NaN or infinite, or JSON cannot hold the state of
                a callback. Nothing is written.
            OSError: if this checkpoint, or the one before it, could not be
                written.
        """
        self.wait()
        state, header = capture(model, position, metrics, callbacks=callbacks)
        if not self.asynchronous:
            self._write(state, header)
            return
        self._thread = threading.Thread(
            target=self._write_and_note, args=(state, header), name="checkpoint"
        )
        self._thread.start()

    def restore(
        self,
        model: keras.Model,
        path: str | os.PathLike | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Position | None:
        """Restores the last checkpoint that is not damaged, or a given one.

        Args:
            model: built; compiled as it was when saved to go on training, not
                compiled for the weights alone. `build_state` makes what a
                compiled model's first step would make.
            path: path of the checkpoint; `None` for the last. Damaged ones are
                left out, each with a warning.
            callbacks: they get their states back.

        Returns:
            Where the training stood; `None` if there is no checkpoint.

        Raises:
            ValueError: if the model is another one. It is left as it was.
            DamagedFileError: if all checkpoints, or the given one, are damaged.
        """
        self.wait()
        if path is not None:
            return load_into(path, model, callbacks=callbacks)
        return self._first_readable(model, self.paths[::-1], callbacks)

    def restore_best(self, model: keras.Model) -> Position | None:
        """Restores the checkpoint of the best `monitor`.

        Args:
            model: as for `restore`.

        Returns:
            Where the training stood; `None` if no checkpoint has `monitor`.

        Raises:
            ValueError: as `restore` does.
        """
        self.wait()
        return self._first_readable(model, self.retention.ranked(self.paths))

    def wait(self) -> None:
        """Returns when the last `save` is on the disk.

        Raises:
            OSError: if it could not be written, or another error that the
                writing thread met.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write_and_note(
        self, state: dict[str, np.ndarray], header: dict[str, Any]
    ) -> None:
        try:
            self._write(state, header)
        except BaseException as error:
            self._failure = error

    def _write(
        self, state: dict[str, np.ndarray], header: dict[str, Any]
    ) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Files are numbered by themselves: after going back, the same steps
        # come again, and would overwrite their files.
        last = _NAME.fullmatch(self.latest.name) if self.latest else None
        number = int(last[1]) + 1 if last else 1
        path = self.directory / f"checkpoint-{number:08d}.h5"
        with atomic_file(path) as partial:
            write_arrays(partial, state, header)
        for old in self.retention.superfluous(self.paths):
            old.unlink(missing_ok=True)

    def _first_readable(
        self,
        model: keras.Model,
        paths: Sequence[pathlib.Path],
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Position | None:
        """Restores the first checkpoint that is not damaged."""
        damage = None
        for path in paths:
            try:
                return load_into(path, model, callbacks=callbacks)
            except FileNotFoundError:
                # Another process, which saves, has just removed the file.
                continue
            except DamagedFileError as error:
                warnings.warn(
                    f"A checkpoint was left out. {error}", stacklevel=3
                )
                damage = error
        if damage is not None:
            raise damage
        return None
