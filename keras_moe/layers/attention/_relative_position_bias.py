"""Biases of attention scores by distance."""

import keras
from keras import ops

from keras_moe.ops import relative_position_bucket
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor


@register
class RelativePositionBias(keras.layers.Layer):
    """A learned bias for each head and each bucket of distance.

    One layer serves all attention layers of a stack.

    Source: [Raffel et al., 2019](https://arxiv.org/abs/1910.10683),
    section 2.1.

    Args:
        num_heads: number of heads.
        num_buckets: number of buckets of distance.
        max_distance: distance from which on all distances share the last
            bucket.
        bidirectional: whether keys may come after the query.

    Call arguments:
        query_positions: int `(queries,)`.
        key_positions: int `(keys,)`.

    Output shape:
        `(num_heads, queries, keys)`, float32.

    Example:

    >>> bias = keras_moe.layers.RelativePositionBias(num_heads=2)
    >>> bias(np.arange(3), np.arange(5)).shape
    TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def build(self, *_shapes) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )

    def call(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = ops.expand_dims(key_positions, 0) - ops.expand_dims(
            query_positions, 1
        )
        bucket = relative_position_bucket(
            distance, self.bidirectional, self.num_buckets, self.max_distance
        )
        bias = ops.take(ops.cast(self.table, "float32"), bucket, axis=0)
        return ops.transpose(bias, (2, 0, 1))  # [h, q, k]

    def compute_output_spec(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> keras.KerasTensor:
        """Returns the spec of the biases: float32 under every policy."""
        shape = (
            self.num_heads,
            query_positions.shape[0],
            key_positions.shape[0],
        )
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }
