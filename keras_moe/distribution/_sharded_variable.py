"""A variable that is spread over devices."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from keras_moe.distribution._placement import place
from keras_moe.distribution._placement import to_whole


class ShardedVariable(dtensor.DVariable):
    """Takes and gives whole arrays where there is no graph.

    So that what reads and writes weights knows nothing of devices: `numpy`,
    `assign` and `save_weights` of a Keras model, resets of metrics.

    Args:
        value: the whole array.
        layout: how it lies.
        **kwargs: `name` and `trainable`, as of `tf.Variable`.
    """

    def __init__(self, value: Any, layout: dtensor.Layout, **kwargs):
        super().__init__(place(value, layout), **kwargs)

    def numpy(self) -> np.ndarray:
        """Returns the whole array."""
        return to_whole(self.read_value())

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype=dtype)

    def assign(self, value: Any, *args, **kwargs):
        """Assigns a whole array, or a sharded tensor."""
        return super().assign(self._placed(value), *args, **kwargs)

    def assign_add(self, delta: Any, *args, **kwargs):
        """Adds a whole array, or a sharded tensor."""
        return super().assign_add(self._placed(delta), *args, **kwargs)

    def assign_sub(self, delta: Any, *args, **kwargs):
        """Subtracts a whole array, or a sharded tensor."""
        return super().assign_sub(self._placed(delta), *args, **kwargs)

    def _placed(self, value: Any) -> Any:
        if not tf.executing_eagerly() or dtensor.is_dtensor(value):
            return value
        value = np.asarray(value, dtype=self.dtype.as_numpy_dtype)
        return place(np.broadcast_to(value, self.shape), self.layout)
