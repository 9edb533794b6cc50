"""A vector of a sequence."""

import keras
from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.serialization import register
from keras_moe.types import Shape
from keras_moe.types import Tensor


@register
class MeanPooling(keras.layers.Layer):
    """The mean over the tokens of a sequence that are not padding.

    What is all padding has the mean 0, where `keras.layers.
    GlobalAveragePooling1D` has NaN: layers behind it would multiply that by a
    gradient of 0, which is NaN for all rows of the batch. Sums are float32.

    Call arguments:
        inputs: `(batch, length, dim)`.
        mask: bool `(batch, length)`, false for padding, which may hold
            anything; by default, the mask of `inputs`.

    Output shape:
        `(batch, dim)`.

    Raises:
        ValueError: if the inputs are integers.

    Example:

    >>> states = np.array([[[1.0], [3.0], [9.0]], [[5.0], [5.0], [5.0]]])
    >>> mask = [[True, True, False], [False, False, False]]
    >>> means = keras_moe.layers.MeanPooling()(states, mask=np.array(mask))
    >>> means.numpy().ravel().tolist()
    [2.0, 0.0]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        check_float(inputs=inputs)
        values = ops.cast(inputs, "float32")
        if mask is None:
            return ops.cast(ops.mean(values, axis=1), self.compute_dtype)
        real = ops.expand_dims(ops.cast(mask, "bool"), -1)
        total = ops.sum(ops.where(real, values, 0.0), axis=1)
        number = ops.sum(ops.cast(real, "float32"), axis=1)
        return ops.cast(total / ops.maximum(number, 1.0), self.compute_dtype)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """Returns nothing: there is no length any more."""
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def compute_output_spec(
        self, inputs: Tensor, mask: Tensor | None = None
    ) -> keras.KerasTensor:
        """Returns what symbolic inputs give; warns where they lost a mask."""
        check_float(inputs=inputs)
        warn_of_lost_mask(self, inputs, mask)
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, self.compute_dtype)
