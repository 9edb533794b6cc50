"""A decoder that is given what it must predict."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.ops._token_ids import IGNORE_ID

_ROWS = 256
_ARRAYS = (np.ndarray, tf.Tensor, tf.TensorSpec)


def watch_targets(x: Any, y: Any, pad_id: int | None) -> Any:
    """Warns where the decoder's inputs are its labels, position by position.

    Such a model learns to copy: its loss falls to 0, and it says nothing when
    it decodes. A data set may give its examples only once: none is taken from
    it, its first batch is looked at while it passes. An iterator is left alone.

    Args:
        x: as `fit` takes it; or a function from an epoch to a data set, as
            `Trainer.fit` takes it.
        y: as `fit` takes it.
        pad_id: the id of padding; `None` if there is none.

    Returns:
        `x`, or what to train on in its place.
    """
    left_out = IGNORE_ID if pad_id is None else pad_id
    if isinstance(x, tf.data.Dataset):
        return _watched(x, left_out)
    if isinstance(x, keras.utils.PyDataset):
        _look(x[0], left_out)
    elif callable(x):
        return lambda epoch: watch_targets(x(epoch), None, pad_id)
    else:
        _look((x, y), left_out)
    return x


def _look(batch: Any, pad_id: int) -> None:
    if _teaches(batch) and _is_unshifted(batch, pad_id):
        _warn()


def _watched(data: tf.data.Dataset, pad_id: int) -> tf.data.Dataset:
    if not _teaches(data.element_spec):
        return data

    def look(number: tf.Tensor, batch: Any) -> Any:
        unshifted = tf.cond(
            number == 0, lambda: _is_unshifted(batch, pad_id), lambda: False
        )
        # Python is called where there is something to say, and only there.
        tf.cond(unshifted, lambda: tf.py_function(_warn, [], []), tf.no_op)
        return batch

    return data.enumerate().map(look)


def _taught_and_labels(batch: Any) -> tuple[Any, Any]:
    inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
    taught = isinstance(inputs, Mapping) and inputs.get("decoder_token_ids")
    return taught, labels


def _teaches(batch: Any) -> bool:
    """Says whether a batch, or its spec, is one of a decoder and its labels."""
    taught, labels = _taught_and_labels(batch)
    if not isinstance(taught, _ARRAYS) or not isinstance(labels, _ARRAYS):
        return False
    return tf.TensorShape(taught.shape).is_compatible_with(labels.shape)


def _is_unshifted(batch: Any, pad_id: int) -> tf.Tensor:
    """Says whether more tokens than one are taught, all in their places."""
    pair = _taught_and_labels(batch)
    taught, labels = (tf.cast(x[:_ROWS], "int64") for x in pair)

    def compare() -> tf.Tensor:
        real = (labels != pad_id) & (labels != IGNORE_ID)
        # One token may be equal by chance, as where it comes twice in a row.
        several = tf.math.count_nonzero(real) > 1
        return several & tf.reduce_all(~real | (taught == labels))

    same = tf.reduce_all(tf.shape(taught) == tf.shape(labels))
    return tf.cond(same, compare, lambda: False)


def _warn() -> None:
    warnings.warn(
        "The decoder is given the very token that it must predict: "
        "`decoder_token_ids` equal the labels at each position. "
        "`keras_moe.ops.shift_right(labels)` makes its inputs.",
        stacklevel=4,
    )
