"""The pre-norm residual connection around a sublayer."""

import keras

from keras_moe.types import Shape
from keras_moe.types import Tensor


class Residual(keras.layers.Layer):
    """`x + dropout(sublayer(norm(x)))`, in two halves.

    A block calls `norm(x)`, runs its sublayer on it however it likes (all at
    once, or a step at a time with a cache), and hands the result to `add`.

    Args:
        dropout_rate: dropout of the sublayer's output.
        normalization: the norm; by default that of T5, by the root of the mean
            square.
    """

    def __init__(
        self,
        dropout_rate: float,
        normalization: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.normalization = normalization or keras.layers.RMSNormalization(
            epsilon=1e-6, dtype=self.dtype_policy, name="norm"
        )
        # Keras would warn that a mask is destroyed, which the block hands on.
        self.normalization.supports_masking = True
        self.dropout = keras.layers.Dropout(
            dropout_rate, dtype=self.dtype_policy, name="dropout"
        )

    def build(self, input_shape: Shape) -> None:
        self.normalization.build(input_shape)

    def norm(self, x: Tensor) -> Tensor:
        """Returns the sublayer's input."""
        return self.normalization(x)

    def add(
        self, x: Tensor, output: Tensor, training: bool | None = None
    ) -> Tensor:
        """Returns the residual's output."""
        return x + self.dropout(output, training=training)
