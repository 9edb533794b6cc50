"""The time below which no engine emits a token: that of reading the weights."""

import re
import time

import tensorflow as tf

from keras_moe.models import SwitchTransformer

_ROUNDS = 20
# Read once a source, not once a token.
_OF_SOURCES = re.compile(r"cross_attention/(key|value)/kernel$")


def least_bytes(model: SwitchTransformer) -> float:
    """Returns the bytes of weights that one step for one row cannot spare.

    Those of one expert in each sparse block, and the head.
    """
    size = 0.0
    for weight in [*model.decoder.trainable_weights, _head(model)]:
        if _OF_SOURCES.search(weight.path):
            continue
        share = weight.shape[0] if "/experts/" in weight.path else 1
        size += _size(weight) / share
    return size


def least_seconds(model: SwitchTransformer) -> float:
    """Returns how long these bytes are read by the threads of one operation.

    As fast as the largest weight, which no cache holds, is summed up.
    """
    largest = _head(model)
    add_up = tf.function(lambda: tf.reduce_sum(largest.value), autograph=False)
    add_up()
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        add_up()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / _size(largest) * least_bytes(model)


def _size(weight) -> int:
    return weight.value.dtype.size * weight.value.shape.num_elements()


def _head(model: SwitchTransformer):
    if model.config.tie_embeddings:
        return model.target_embedding.embeddings
    return model.head.kernel
