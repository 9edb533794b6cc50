"""An activation that keeps the k largest neurons of each token."""

import keras
from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.layers.transformer._activation_sparsity import ActivationSparsity
from keras_moe.serialization import register
from keras_moe.types import ActivationLike
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class TopKActivation(keras.layers.Layer):
    """Keeps the `k` largest activations of each token, and zeros the others.

    An activation for `keras_moe.layers.FeedForward`,
    `keras_moe.layers.SparseMoE` and any layer of Keras that takes a function:
    `FeedForward(1024, activation=TopKActivation(k=64))`. Each layer makes a
    copy of its own. No more than `k` neurons are kept, ever: of equal ones,
    those of the lowest index.

    When, and when not: to find out how few neurons a model needs, or for
    hardware that skips zeros. Here 1/16 of the neurons cost no accuracy to
    speak of (`python -m benchmarks.article`), and saved no time: products of
    dense matrices multiply by zeros as by anything else. Calibration and
    robustness did not gain in our trials, as they did in the paper's.
    Experimental.

    Source: [Li et al., 2022](https://arxiv.org/abs/2210.06313), section 4.

    Args:
        k: how many neurons are kept, from 1 to the width of the input.
        activation: what is applied before, `"relu"` as in the paper; `None`
            for nothing.
        report_metrics: see `keras_moe.layers.ActivationSparsity`.

    Call arguments:
        inputs: `(batch, ..., width)`.
        mask: bool `(batch, ...)`, false for rows that do not count in the
            metric; taken from the inputs where Keras propagates one. Rows of
            zeros, such as the empty slots of experts without a bias, never
            count.

    Output shape:
        That of the inputs. A row with NaN keeps it.

    Raises:
        ValueError: if `k` is no positive integer, or above the width.

    Attributes:
        activation_sparsity: the `keras_moe.layers.ActivationSparsity` that
            measures the share of zeros; a metric of the model.

    Example:

    >>> layer = keras_moe.layers.TopKActivation(k=2)
    >>> layer(np.array([[3.0, -1.0, 2.0, 1.0]])).numpy()
    array([[3., 0., 2., 0.]], dtype=float32)
    >>> network = keras_moe.layers.FeedForward(8, activation=layer)
    >>> network(np.random.rand(2, 5, 4)).shape
    TensorShape([2, 5, 4])
    """

    def __init__(
        self,
        k: int,
        activation: ActivationLike = "relu",
        report_metrics: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if k is None:
            raise ValueError(
                "`k` must be a positive integer. Received: k=None."
            )
        check_size(k=k)
        self.k = int(k)
        self.activation = keras.activations.get(activation)
        self.activation_sparsity = ActivationSparsity(
            report_metrics, dtype=self.dtype_policy, name="activation_sparsity"
        )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        if width is None or self.k > width:
            raise ValueError(
                "`k` must be at most the width of the input, which must be "
                f"known. Received: k={self.k}, input_shape="
                f"{tuple(input_shape)}."
            )
        self.activation_sparsity.build(input_shape)

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        check_float(inputs=inputs)
        # Empty slots of experts are zeros, and no tokens.
        counted = ops.any(ops.not_equal(inputs, 0), axis=-1)
        if mask is not None:
            counted = ops.logical_and(counted, ops.cast(mask, "bool"))
        outputs = keep_top_k(self.activation(inputs), self.k)
        return self.activation_sparsity(outputs, mask=counted)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "k": self.k,
            "activation": keras.activations.serialize(self.activation),
            "report_metrics": self.activation_sparsity.report_metrics,
        }


def keep_top_k(x: Tensor, k: int) -> Tensor:
    """Returns `[..., n]` with all but the `k` largest of each row at zero.

    Args:
        x: floating point `[..., n]`; NaN is kept.
        k: from 1 to n.
    """
    if k == x.shape[-1]:
        return x
    least = ops.top_k(x, k)[0][..., -1:]
    above, level = x > least, ops.equal(x, least)
    free = k - ops.sum(ops.cast(above, "int32"), axis=-1, keepdims=True)
    rank = ops.cumsum(ops.cast(level, "int32"), axis=-1)
    kept = above | (level & (rank <= free)) | ops.isnan(x)
    return ops.where(kept, x, 0)
