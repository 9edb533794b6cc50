"""What random features measure of themselves."""

import keras
from keras import ops

from keras_moe.backend import loops_keep_metrics
from keras_moe.backend import metrics_are_in_reach
from keras_moe.layers.attention._feature_averages import current_value
from keras_moe.metrics import RelativeVariance
from keras_moe.types import Tensor


class MeasuredFeatures(keras.layers.Layer):
    """A layer that knows the predicted variance of its features.

    Attributes:
        relative_variance: metric of the worst head's, once it is built.
    """

    predicted_variance: keras.Variable
    num_updates: keras.Variable

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What a model reports of the features; see `loops_keep_metrics`."""
        return super().metrics if loops_keep_metrics() else []

    @property
    def is_softmax(self) -> bool:
        """Whether the kernel is that of softmax: of others nothing is known."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `is_softmax`."
        )

    def add_metrics(self) -> None:
        """Makes the metric."""
        prefix = self.path.rsplit("/", 1)[0]
        self.relative_variance = RelativeVariance(
            name=f"{prefix}/relative_variance", otherwise=self._variance_now
        )

    def measure(self) -> None:
        """Takes the variance, as the features stand now, into the metric."""
        if self.is_softmax and metrics_are_in_reach():
            worst, fitted = self._worst_variance(), self._is_fitted()
            self.relative_variance.update_state(
                worst, sample_weight=ops.cast(fitted, "float32")
            )

    def _variance_now(self) -> Tensor:
        """Returns that of the worst head; NaN before the first fit."""
        worst = self._worst_variance()
        return ops.where(self._is_fitted(), worst, float("nan"))

    def _worst_variance(self) -> Tensor:
        return ops.max(current_value(self.predicted_variance))

    def _is_fitted(self) -> Tensor:
        return current_value(self.num_updates) > 0
