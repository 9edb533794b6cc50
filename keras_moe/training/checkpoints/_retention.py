"""The choice of checkpoints that stay: the last ones and the best."""

import pathlib
from collections.abc import Sequence

import numpy as np

from keras_moe.training.checkpoints._array_file import read_header
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError
from keras_moe.validation import check_choice
from keras_moe.validation import check_size


class Retention:
    """Keeps the last checkpoints, and the best by a metric besides.

    Args:
        keep: how many of the last are kept.
        monitor: name of the metric that tells which is the best; `None` for
            none.
        mode: `"min"` if small values of it are good, `"max"` if large ones.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_moe.training import Checkpoints
    >>> from keras_moe.training import Position
    >>> from keras_moe.training.checkpoints._retention import Retention
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> checkpoints = Checkpoints(directory, keep=3, asynchronous=False)
    >>> for step, loss in enumerate([1.0, 3.0, 2.0]):
    ...     checkpoints.save(model, Position(step=step), {"val_loss": loss})
    >>> retention = Retention(keep=1, monitor="val_loss")
    >>> [path.name for path in retention.superfluous(checkpoints.paths)]
    ['checkpoint-00000002.h5']
    """

    def __init__(
        self, keep: int = 3, monitor: str | None = None, mode: str = "min"
    ):
        check_size(keep=keep)
        check_choice(("min", "max"), mode=mode)
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        # Reading every header again after each save would take longer and
        # longer: remember the metrics of files that did not change.
        self._known: dict[tuple, dict[str, float]] = {}

    def ranked(self, paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
        """Returns the checkpoints that have `monitor`, the best first.

        Args:
            paths: checkpoints, in the order they were saved. Of equally good
                ones, the first comes first.
        """
        if self.monitor is None:
            return []
        sign = 1 if self.mode == "min" else -1
        values = [
            (sign * value, path)
            for path in paths
            if (value := self._metrics(path).get(self.monitor)) is not None
            and not np.isnan(value)
        ]
        return [path for _, path in sorted(values, key=lambda pair: pair[0])]

    def superfluous(self, paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
        """Returns the checkpoints that are neither of the last nor the best.

        Args:
            paths: all checkpoints, in the order they were saved.
        """
        kept = {*paths[-self.keep :], *self.ranked(paths)[:1]}
        return [path for path in paths if path not in kept]

    def _metrics(self, path: pathlib.Path) -> dict[str, float]:
        """Returns the metrics of a checkpoint; none if it cannot be read."""
        try:
            stat = path.stat()
            key = (path.name, stat.st_ino, stat.st_mtime_ns)
            if key not in self._known:
                metrics = read_header(path).get("metrics")
                self._known[key] = {
                    name: value
                    for name, value in (
                        metrics.items() if isinstance(metrics, dict) else ()
                    )
                    if isinstance(value, int | float)
                }
            return self._known[key]
        except (FileNotFoundError, DamagedFileError):
            return {}
