"""Streams of batches: of like length, shuffled by seed, never a whole split.

Pairs of sequences come in chunks and wait in a pool of fixed size. Each step
adds a chunk to the pool and takes as many pairs out of it, as batches of one
bucket that are drawn at random. Everything happens in `tf.data`, on many pairs
at once; the order depends on the seed and the epoch, and on nothing else.
"""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_moe.ops import shift_right

# A function from the seed of an order, int64 `(2,)` (`None` for the order in
# which pairs were written), to one pass over chunks of them: int32 `(pairs, s)`
# and `(pairs, t)`. The seed may be known only as a graph runs.
Pairs: TypeAlias = Callable[[tf.Tensor | None], tf.data.Dataset]

_PAIRS_AT_ONCE = 4096
# Pairs among which batches are drawn. Each takes 260 bytes in the pipeline, and
# a step holds four copies: 34 MB, however large the dictionary.
_POOL = 32768
# Batches hold sequences of like length, so that little is padding.
_BUCKETS = (5, 6, 7, 8, 9, 10, 12, 16)
_PREFETCHED = 4


def training_batches(
    pairs: Pairs, model_config: Any, batch_size: int, seed: int
) -> Callable[[int], tf.data.Dataset]:
    """Returns the shuffled batches of any epoch.

    Pairs that are further apart than the pool is large meet only where their
    files are read in turns: write records in random order.

    Args:
        pairs: what is learned from.
        model_config: the model's config (its special ids).
        batch_size: pairs of a batch; the last of a pass may have fewer.
        seed: seed of the order.

    Returns:
        A function from the number of an epoch to one pass over the pairs, of
        batches `({"encoder_token_ids": ids, "decoder_token_ids": ids}, ids)`
        for teacher forcing, int32, each as long as its longest row. The same
        epoch has the same batches, whatever TensorFlow's global seed is. An
        endless stream, pass after pass, is
        `tf.data.Dataset.counter().flat_map(batches)`.
    """

    @tf.function(
        input_signature=[tf.TensorSpec([2], tf.int64)], autograph=False
    )
    def one_pass(order: tf.Tensor) -> tf.data.Dataset:
        return _pass(pairs(order), model_config, batch_size, _POOL, order)

    def epoch_batches(epoch: int | tf.Tensor) -> tf.data.Dataset:
        # `one_pass` is traced for the first epoch, and not again.
        order = tf.stack([np.int64(seed), tf.cast(epoch, tf.int64)])
        passes = tf.data.Dataset.from_tensors(order).flat_map(one_pass)
        return passes.prefetch(_PREFETCHED)

    return epoch_batches


def evaluation_batches(
    pairs: Pairs, model_config: Any, batch_size: int
) -> tf.data.Dataset:
    """Returns one pass over the pairs, always in the same order.

    Args:
        pairs: what is evaluated on.
        model_config: the model's config (its special ids).
        batch_size: pairs of a batch; the last may have fewer.

    Returns:
        Batches as of `training_batches`.
    """
    batches = _pass(pairs(None), model_config, batch_size, 0, None)
    return batches.prefetch(_PREFETCHED)


def array_pairs(
    source: np.ndarray, target: np.ndarray, seed: tf.Tensor | None = None
) -> tf.data.Dataset:
    """Returns the pairs of two arrays; `functools.partial` makes a `Pairs`.

    Args:
        source: int `[n, s]`.
        target: int `[n, t]`.
        seed: seed of the order; `None` for that of the arrays.

    Raises:
        ValueError: if the numbers of sources and targets differ.
    """
    if len(source) != len(target):
        raise ValueError(
            "`source` and `target` must hold the same number of rows. "
            f"Received: {len(source)} and {len(target)}."
        )
    size = len(source)
    rows = _shuffle(tf.range(size), seed)
    with tf.init_scope():
        arrays = [tf.constant(ids, tf.int32) for ids in (source, target)]

    def chunk(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chosen = rows[start : start + _PAIRS_AT_ONCE]
        return tuple(tf.gather(ids, chosen) for ids in arrays)

    return tf.data.Dataset.range(0, size, _PAIRS_AT_ONCE).map(chunk)


def _pass(
    pairs: tf.data.Dataset,
    model_config: Any,
    batch_size: int,
    pool_size: int,
    seed: tf.Tensor | None,
) -> tf.data.Dataset:
    """Returns the batches of one pass over chunks of pairs.

    Args:
        pairs: chunks of pairs.
        model_config: the model's config (its special ids).
        batch_size: pairs of a batch.
        pool_size: pairs that wait for others.
        seed: seed of the draws; `None` for batches in the order of buckets.
    """
    pad_id, start_id = model_config.pad_id, model_config.start_id

    def fill_and_draw(state: tuple, chunk: tuple) -> tuple:
        step, *waiting = state
        *arrived, is_last = chunk
        pool = [tf.concat(ids, 0) for ids in zip(waiting, arrived, strict=True)]
        bucket = _bucket(*pool, pad_id)
        excess = tf.maximum(tf.size(bucket, tf.int64) - pool_size, 0)
        rows = _draw(bucket, batch_size, excess, is_last, _fold(seed, step))
        leaves = tf.scatter_nd(
            rows.flat_values[:, tf.newaxis],
            tf.ones_like(rows.flat_values, tf.bool),
            tf.shape(bucket, tf.int64),
        )
        waiting = [tf.boolean_mask(ids, ~leaves) for ids in pool]
        return (step + 1, *waiting), tuple(tf.gather(ids, rows) for ids in pool)

    def teach(x: tf.Tensor, y: tf.Tensor) -> tuple[dict, tf.Tensor]:
        x, y = _trim(x, pad_id), _trim(y, pad_id)
        inputs = {
            "encoder_token_ids": x,
            "decoder_token_ids": shift_right(y, start_id),
        }
        return inputs, y

    empty = tuple(
        tf.zeros([0, spec.shape[1]], tf.int32) for spec in pairs.element_spec
    )
    end = tf.data.Dataset.from_tensors((*empty, True))
    chunks = pairs.map(lambda x, y: (x, y, False)).concatenate(end)
    # A step gives several batches, or none; `unbatch` separates them.
    drawn = chunks.scan((np.int64(0), *empty), fill_and_draw)
    return drawn.unbatch().map(teach)


def _bucket(source: tf.Tensor, target: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Returns the bucket of each pair, by its longer sequence; int64."""
    lengths = [
        tf.math.count_nonzero(ids != pad_id, axis=1) for ids in (source, target)
    ]
    bounds = tf.constant(_BUCKETS, tf.int64)
    return tf.searchsorted(bounds, tf.maximum(*lengths), out_type=tf.int64)


def _draw(
    bucket: tf.Tensor,
    batch_size: int,
    excess: tf.Tensor,
    is_last: tf.Tensor,
    seed: tf.Tensor | None,
) -> tf.RaggedTensor:
    """Draws batches of pairs from the pool.

    Args:
        bucket: int64 `(pairs,)`.
        batch_size: pairs of a batch.
        excess: pairs that are to leave; fewer, if no more batches are whole.
        is_last: whether no pairs come after these. All leave then, the rests of
            neighbouring buckets together; before, a batch is of one bucket.
        seed: seed of the draw; `None` for pairs in order, bucket by bucket.

    Returns:
        The places of the pairs of each batch, int64 `(batches, pairs)`.
    """
    size = tf.size(bucket, tf.int64)
    order = _shuffle(tf.range(size), _fold(seed, 0))
    order = tf.gather(order, tf.argsort(tf.gather(bucket, order), stable=True))
    counts = tf.math.bincount(
        tf.cast(bucket, tf.int32),
        minlength=len(_BUCKETS) + 1,
        dtype=tf.int64,
    )
    starts = tf.cumsum(counts, exclusive=True)
    ends = starts + counts // batch_size * batch_size
    first = tf.cond(
        is_last,
        lambda: tf.range(0, size, batch_size),
        lambda: tf.ragged.range(starts, ends, batch_size).flat_values,
    )
    number = tf.where(is_last, size, -(-excess // batch_size))
    first = _shuffle(first, _fold(seed, 1))[:number]
    last = tf.minimum(first + batch_size, size)
    return tf.gather(order, tf.ragged.range(first, last))


def _fold(seed: tf.Tensor | None, number: tf.Tensor | int) -> tf.Tensor | None:
    """Returns another seed for each number."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, number)


def _shuffle(values: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
    if seed is None:
        return values
    return tf.random.experimental.stateless_shuffle(values, seed)


def _trim(ids: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Cuts off the columns at the end that are padding in every row."""
    used = tf.where(tf.reduce_any(ids != pad_id, axis=0))
    # A column stays, so that there is something to run over.
    return ids[:, : tf.reduce_max(tf.concat([used[:, 0] + 1, [1]], 0))]
