"""Evaluation of a model over the batches of all replicas."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.training._compiled_steps import Steps
from keras_moe.training._epoch_batches import EpochBatches


def evaluate(
    model: keras.Model, test_steps: Steps, batches: EpochBatches
) -> dict[str, Any]:
    """Returns a model's metrics over all of the batches.

    Args:
        model: compiled and built.
        test_steps: the function that `make_test_steps` returned for it.
        batches: the data; its first epoch is evaluated.

    Returns:
        Name to number, or to array.

    Raises:
        ValueError: if the data has no end.
    """
    model.reset_metrics()
    batches.seek(0)
    batch = 0
    while batches.num_batches is None or batch < batches.num_batches:
        try:
            test_steps(batches.iterator, 1)
        except tf.errors.OutOfRangeError:
            break
        batch += 1
    return read_metrics(model)


def read_metrics(model: keras.Model) -> dict[str, Any]:
    """Returns a model's metrics, summed up over all replicas.

    Reading them is a collective operation: all workers must call this
    function, or those that do will wait for ever.

    Args:
        model: compiled and built.

    Returns:
        Name to number, or to array.
    """
    with model.distribute_strategy.scope():
        results = model.get_metrics_result()
    values = {name: np.asarray(value) for name, value in results.items()}
    return {
        name: float(value) if value.size == 1 else value
        for name, value in values.items()
    }
