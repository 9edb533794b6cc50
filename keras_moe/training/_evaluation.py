"""Metrics over what all replicas saw."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.training._epoch_batches import EpochBatches
from keras_moe.training._train_step import Steps


def evaluated(
    model: keras.Model, test_steps: Steps, batches: EpochBatches
) -> dict[str, Any]:
    """Returns a model's metrics over all of the batches.

    Args:
        model: compiled and built.
        test_steps: see `make_test_steps`.
        batches: of one epoch.
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
    return metrics_of(model)


def metrics_of(model: keras.Model) -> dict[str, Any]:
    """Returns a model's metrics, numbers or arrays, over all replicas.

    All workers must call it together.
    """
    with model.distribute_strategy.scope():
        results = model.get_metrics_result()
    values = {name: np.asarray(value) for name, value in results.items()}
    return {
        name: float(value) if value.size == 1 else value
        for name, value in values.items()
    }
