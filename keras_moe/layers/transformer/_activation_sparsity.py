"""How many neurons are silent."""

import keras
from keras import ops

from keras_moe.backend import loops_keep_metrics
from keras_moe.backend import metrics_are_in_reach
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor


@register
class ActivationSparsity(keras.layers.Layer):
    """Hands its input on, and measures which share of it is zero.

    Put it behind any activation. The figure is a metric of the model, named as
    the layer's path, of training and of evaluation; it changes no output, and
    is measured in frozen layers, too.

    Source: [Li et al., 2022](https://arxiv.org/abs/2210.06313), which found
    that few neurons of trained Transformers are not zero.

    Args:
        report_metrics: whether the figure is among the model's metrics, and so
            in each line of its logs. It is measured in either case. On JAX it
            is not: Keras's loops there lose it.

    Call arguments:
        inputs: `(batch, ..., dim)`, activations.
        mask: bool `(batch, ...)`, false for rows that do not count; taken from
            the inputs where Keras propagates one.

    Output shape:
        That of the inputs.

    Attributes:
        sparsity: `keras.metrics.Mean`, over rows, of the share of zeros.

    Example:

    >>> layer = keras_moe.layers.ActivationSparsity()
    >>> outputs = layer(np.array([[0.0, 2.0, 0.0, 0.0]]))
    >>> float(layer.sparsity.result())
    0.75
    """

    def __init__(self, report_metrics: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.report_metrics = report_metrics
        self.supports_masking = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What a model reports."""
        reported = self.report_metrics and loops_keep_metrics()
        return super().metrics if reported else []

    def build(self, input_shape: Shape) -> None:
        self.sparsity = keras.metrics.Mean(name=self.path)

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        if metrics_are_in_reach():
            zeros = ops.cast(ops.equal(inputs, 0), "float32")
            # Of several axes Keras would take the mean of all but the first,
            # masked rows included.
            shares = ops.reshape(ops.mean(zeros, axis=-1), (-1,))
            if mask is not None:
                mask = ops.reshape(mask, (-1,))
            self.sparsity.update_state(shares, sample_weight=mask)
        return inputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "report_metrics": self.report_metrics,
        }
