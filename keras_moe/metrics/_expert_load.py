"""The load of experts, summed over a whole epoch."""

import keras
from keras import ops

from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class ExpertLoad(keras.metrics.Metric):
    """Counts the choices that fell on each expert.

    The state is a vector, so nothing is lost in a mean over batches: an
    expert that is empty in every second batch is told from one that is always
    half full. Under `tf.distribute` the counts are summed over replicas.

    `result()`, what training logs show, is the coefficient of variation of
    the load: the standard deviation over experts by the mean. 0 is even,
    `sqrt(E - 1)` all tokens on one expert.

    Args:
        num_experts: number of experts.
        name: name of the metric.
        dtype: dtype of the counts.

    Raises:
        ValueError: if `num_experts` is not a positive integer.

    Example:

    >>> load = keras_moe.metrics.ExpertLoad(num_experts=2)
    >>> load.update_state([1, 3])
    >>> load.load().numpy()
    array([0.25, 0.75], dtype=float32)
    >>> float(load.result())
    0.5
    """

    def __init__(
        self,
        num_experts: int,
        name: str = "expert_load",
        dtype: str | None = "float32",
    ):
        super().__init__(name=name, dtype=dtype)
        check_size(num_experts=num_experts)
        self.num_experts = num_experts
        self.counts = self.add_variable(
            shape=(num_experts,), initializer="zeros", name="counts"
        )

    def update_state(
        self, counts: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Adds the counts of one batch.

        Args:
            counts: `[num_experts]`, for instance of `expert_counts`.
            sample_weight: a factor of the counts.
        """
        counts = ops.cast(counts, self.dtype)
        if sample_weight is not None:
            counts = counts * ops.cast(sample_weight, self.dtype)
        self.counts.assign_add(counts)

    def load(self) -> Tensor:
        """Returns each expert's share `[num_experts]`, which sum to 1.

        All are 0 where nothing was counted.
        """
        counts = ops.convert_to_tensor(self.counts)
        return ops.divide_no_nan(counts, ops.sum(counts))

    def result(self) -> Tensor:
        """Returns the coefficient of variation; 0 if nothing was counted."""
        return ops.std(self.load()) * self.num_experts

    def get_config(self) -> Config:
        return {**super().get_config(), "num_experts": self.num_experts}
