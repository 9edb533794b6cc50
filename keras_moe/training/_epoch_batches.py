"""The batches of each epoch, from any batch on."""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import tensorflow as tf

from keras_moe.training._replica_batches import distribute_batches

Data: TypeAlias = tf.data.Dataset | Callable[[int], tf.data.Dataset]


class EpochBatches:
    """An iterator over distributed batches that can be set to any position.

    Args:
        data: a data set of global batches, or a function from the number of an
            epoch to one.
        strategy: the strategy that distributes them.
        steps_per_epoch: batches of an epoch; by default, all of the data set.
            Where it is given, a data set is repeated, and an epoch begins
            where the last one ended; the data set that a function returns is
            cut after as many batches.

    Attributes:
        iterator: an iterator over the rest of the epoch; `None` before `seek`.
        num_batches: batches of the epoch; `None` if it is not known.

    Raises:
        ValueError: if `data` is neither.

    Example:

    >>> import tensorflow as tf
    >>> from keras_moe.training._epoch_batches import EpochBatches
    >>> data = tf.data.Dataset.range(6).batch(2)
    >>> batches = EpochBatches(data, tf.distribute.get_strategy())
    >>> batches.seek(epoch=0, batch=1)
    >>> [batch.numpy().tolist() for batch in batches.iterator]
    [[2, 3], [4, 5]]
    """

    def __init__(
        self,
        data: Data,
        strategy: tf.distribute.Strategy,
        steps_per_epoch: int | None = None,
    ):
        if not callable(data) and not isinstance(data, tf.data.Dataset):
            raise ValueError(
                "`data` must be a `tf.data.Dataset` of batches, or a function "
                f"from an epoch's number to one. Received: data={data!r}."
            )
        self.data = data
        self.strategy = strategy
        self.steps_per_epoch = steps_per_epoch
        self.iterator: Any = None
        self.num_batches = steps_per_epoch
        # Next batch of a data set that goes on over epochs, counted from its
        # first epoch: `seek` needs no new iterator where it stands already.
        self._next_of_stream: int | None = None

    def element_spec(self, epoch: int = 0) -> Any:
        """Returns the shapes and dtypes of a batch.

        Args:
            epoch: the epoch whose data set is looked at.
        """
        return self._data_set(epoch).element_spec

    def length(self, epoch: int) -> int | None:
        """Returns the number of batches of an epoch; `None` if not known.

        Args:
            epoch: from 0.

        Raises:
            ValueError: if the data has no end.
        """
        if self.steps_per_epoch is not None and not callable(self.data):
            return self.steps_per_epoch
        return self._length(self._cut(self._data_set(epoch)))

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Makes a batch the next one.

        Args:
            epoch: from 0.
            batch: the batch in that epoch, from 0.

        Raises:
            ValueError: if the data has no end, or is no data set.
        """
        start = batch
        data = self._data_set(epoch)
        if callable(self.data) or self.steps_per_epoch is None:
            data = self._cut(data)
            self.num_batches = self._length(data)
        else:
            start += epoch * self.steps_per_epoch
            if start == self._next_of_stream:
                return
            data = data.repeat()
            self._next_of_stream = start
        if start:
            data = data.skip(start)
        self.iterator = iter(distribute_batches(data, self.strategy))

    def advance(self, num_batches: int) -> None:
        """Notes that batches were taken from the iterator.

        Args:
            num_batches: how many.
        """
        if self._next_of_stream is not None:
            self._next_of_stream += num_batches

    def _data_set(self, epoch: int) -> tf.data.Dataset:
        data = self.data(epoch) if callable(self.data) else self.data
        if not isinstance(data, tf.data.Dataset):
            raise ValueError(
                "`data` must return a `tf.data.Dataset`. Received: "
                f"data({epoch})={data!r}."
            )
        return data

    def _cut(self, data: tf.data.Dataset) -> tf.data.Dataset:
        if self.steps_per_epoch is None:
            return data
        return data.take(self.steps_per_epoch)

    def _length(self, data: tf.data.Dataset) -> int | None:
        length = int(data.cardinality())
        if length == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`data` must have an end, or `steps_per_epoch` be given. "
                "Received: steps_per_epoch=None, and data without an end."
            )
        return None if length == tf.data.UNKNOWN_CARDINALITY else length
