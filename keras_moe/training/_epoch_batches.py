"""The batches of each epoch, from any of them on."""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras
import tensorflow as tf

Data: TypeAlias = tf.data.Dataset | Callable[[int], tf.data.Dataset]


class EpochBatches:
    """An iterator over distributed batches that can be set to any position.

    Args:
        data: a data set of global batches, or a function from the number of an
            epoch to one.
        strategy: what distributes them.
        steps_per_epoch: batches of an epoch; by default, all of the data set.
            With it, a data set is repeated, and an epoch begins where the last
            one ended; what a function returns is cut.

    Attributes:
        iterator: over what is left of the epoch.
        num_batches: of the epoch; `None` if it is not known.

    Raises:
        ValueError: if `data` is something else.
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
        # Of a data set that goes on over epochs: the batch that comes next.
        self._stream: int | None = None

    def element_spec(self, epoch: int = 0) -> Any:
        """Returns the shapes and dtypes of a batch."""
        return self._data_set(epoch).element_spec

    def length(self, epoch: int) -> int | None:
        """Returns the number of batches of an epoch, if it is known."""
        if self.steps_per_epoch is not None and not callable(self.data):
            return self.steps_per_epoch
        return self._length(self._cut(self._data_set(epoch)))

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Makes `batch` of `epoch` the next one."""
        start = batch
        data = self._data_set(epoch)
        if callable(self.data) or self.steps_per_epoch is None:
            data = self._cut(data)
            self.num_batches = self._length(data)
        else:
            start += epoch * self.steps_per_epoch
            if start == self._stream:
                return
            data = data.repeat()
            self._stream = start
        if start:
            data = data.skip(start)
        self.iterator = iter(distributed(data, self.strategy))

    def took(self, number: int) -> None:
        """Says that as many batches were taken from the iterator."""
        if self._stream is not None:
            self._stream += number

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


def distributed(data: tf.data.Dataset, strategy: tf.distribute.Strategy) -> Any:
    """Returns the data set of global batches, each replica with its share.

    Every worker reads all data and takes its examples from each batch, unless
    the data set's own options say otherwise: what a batch holds does then not
    depend on the number of workers.
    """
    policies = tf.data.experimental.AutoShardPolicy
    chosen = data.options().experimental_distribute.auto_shard_policy
    if chosen == policies.AUTO:
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = policies.DATA
        data = data.with_options(options)
    return strategy.experimental_distribute_dataset(data)


def whole_batch(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns a distributed batch in one piece, the same in all workers."""

    def numbers(part: tf.Tensor) -> tf.Tensor:
        # Collectives know nothing else.
        return tf.cast(part, tf.int32) if part.dtype == tf.bool else part

    def join(value: Any) -> tf.Tensor:
        if strategy.num_replicas_in_sync == 1:
            return value
        dtype = strategy.experimental_local_results(value)[0].dtype
        whole = strategy.gather(strategy.run(numbers, (value,)), axis=0)
        return tf.cast(whole, dtype)

    return keras.tree.map_structure(join, batch)
