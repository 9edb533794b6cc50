"""The simple way to beat: the whole split in arrays, batches by NumPy."""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_moe.ops import shift_right
from pipelines.g2p.modules.batches import Pairs

_BUCKETS = (5, 6, 7, 8, 9, 10, 12, 16)


def training_batches(
    pairs: Pairs, model_config: Any, batch_size: int, seed: int
) -> Callable[[int], tf.data.Dataset]:
    """Does what `pipelines.g2p.modules.batches.training_batches` does."""
    source, target = _read(pairs)

    def epoch_batches(epoch: int) -> tf.data.Dataset:
        random = np.random.default_rng((seed, epoch))
        return _batches(source, target, model_config, batch_size, random)

    return epoch_batches


def evaluation_batches(
    pairs: Pairs, model_config: Any, batch_size: int
) -> tf.data.Dataset:
    """Does what `pipelines.g2p.modules.batches.evaluation_batches` does."""
    return _batches(*_read(pairs), model_config, batch_size, None)


def _read(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    source, target = zip(*pairs(None).as_numpy_iterator(), strict=True)
    return np.concatenate(source), np.concatenate(target)


def _batches(
    source: np.ndarray,
    target: np.ndarray,
    model_config: Any,
    batch_size: int,
    random: np.random.Generator | None,
) -> tf.data.Dataset:
    pad_id = model_config.pad_id

    def generate() -> Iterator[tuple]:
        for rows in _rows(source, target, pad_id, batch_size, random):
            yield _trim(source[rows], pad_id), _trim(target[rows], pad_id)

    def teach(x: tf.Tensor, y: tf.Tensor) -> tuple[dict, tf.Tensor]:
        inputs = {
            "encoder_token_ids": x,
            "decoder_token_ids": shift_right(y, model_config.start_id),
        }
        return inputs, y

    ids = tf.TensorSpec((None, None), tf.int32)
    stream = tf.data.Dataset.from_generator(
        generate, output_signature=(ids, ids)
    )
    return stream.map(teach).prefetch(4)


def _rows(
    source: np.ndarray,
    target: np.ndarray,
    pad_id: int,
    batch_size: int,
    random: np.random.Generator | None,
) -> Iterator[np.ndarray]:
    """Yields the rows of each batch, bucketed by the longer sequence."""
    length = np.maximum(
        (source != pad_id).sum(axis=1), (target != pad_id).sum(axis=1)
    )
    bucket = np.searchsorted(_BUCKETS, length)
    order = np.arange(len(source))
    if random is not None:
        random.shuffle(order)
    order = order[np.argsort(bucket[order], kind="stable")]
    starts = np.arange(0, len(order), batch_size)
    if random is not None:
        random.shuffle(starts)
    for start in starts:
        yield order[start : start + batch_size]


def _trim(ids: np.ndarray, pad_id: int) -> np.ndarray:
    """Cuts off the columns at the end that are padding in every row."""
    (used,) = np.nonzero((ids != pad_id).any(axis=0))
    return ids[:, : used[-1] + 1 if len(used) else 1]
