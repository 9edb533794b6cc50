"""Batches cut up for replicas, and put together again."""

from typing import Any

import keras
import tensorflow as tf


def distribute_batches(
    data: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> Any:
    """Returns the data set of global batches, each replica with its share.

    Every worker reads all data and takes its examples from each batch, unless
    the data set's own options say otherwise: the content of a batch then does
    not depend on the number of workers.

    Args:
        data: a data set of global batches.
        strategy: the strategy whose replicas train on them.
    """
    policies = tf.data.experimental.AutoShardPolicy
    chosen = data.options().experimental_distribute.auto_shard_policy
    if chosen == policies.AUTO:
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = policies.DATA
        data = data.with_options(options)
    return strategy.experimental_distribute_dataset(data)


def gather_batch(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns a distributed batch in one piece, the same in all workers.

    Args:
        batch: tensors in any structure, as the iterator of a distributed data
            set gives them.
        strategy: the strategy that the data set is distributed by.
    """

    def to_numbers(part: tf.Tensor) -> tf.Tensor:
        # Collective operations refuse booleans.
        return tf.cast(part, tf.int32) if part.dtype == tf.bool else part

    def gather(value: Any) -> tf.Tensor:
        if strategy.num_replicas_in_sync == 1:
            return value
        dtype = strategy.experimental_local_results(value)[0].dtype
        whole = strategy.gather(strategy.run(to_numbers, (value,)), axis=0)
        return tf.cast(whole, dtype)

    return keras.tree.map_structure(gather, batch)
