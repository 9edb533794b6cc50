"""Metrics of ranked lists, over what a search returns."""

from typing import Any

import keras
from keras import ops

from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor


@register
class SearchMetric(keras.metrics.Metric):
    """A metric of keras-rs, of identifiers that a search found.

    keras-rs's metrics compare scores and relevance of a list; a search returns
    names, the best first, and what it missed is in no list. Here what is
    relevant and was missed is put behind what was found, so that recall and
    ideal gain count it.

    `keras_rs.metrics.NDCG` has the gain `2 ** relevance - 1`; give it
    `gain_fn` for the linear gain of `trec_eval`. With relevance of 0 or 1, as
    it is here, both are the same.

    Args:
        metric: such as `keras_rs.metrics.RecallAtK(k=10)`, with a `k` that is
            at most the number of identifiers that are found.
        name: name of the metric, by default that of `metric`.

    Raises:
        ValueError: if `metric` is none of keras-rs's, or has no `k`; when it
            is updated, if fewer than `k` identifiers were found.

    Example:

    >>> import keras_rs
    >>> metric = keras_moe.metrics.SearchMetric(
    ...     keras_rs.metrics.MeanReciprocalRank(k=3)
    ... )
    >>> metric.update_state(y_true=[7, 1], y_pred=[[5, 7, 8], [2, 3, 4]])
    >>> float(metric.result())  # 1 / 2 and 0
    0.25
    """

    def __init__(self, metric: Any, name: str | None = None, **kwargs):
        k = getattr(metric, "k", None)
        if not isinstance(metric, keras.metrics.Metric) or k is None:
            raise ValueError(
                "`metric` must be a ranking metric of keras-rs with a `k`, "
                "such as `keras_rs.metrics.RecallAtK(k=10)`. Received: "
                f"metric={metric!r}, k={k}."
            )
        super().__init__(name=name or metric.name, **kwargs)
        self.metric = metric

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None
    ) -> None:
        """Adds a batch of searches.

        Args:
            y_true: what is relevant, `[batch]` or `[batch, relevant]`, integers
                or strings, filled up with numbers below 0 or empty strings.
            y_pred: what was found, `[batch, found]`, the best first.
            sample_weight: `[batch]`.
        """
        relevant = ops.convert_to_tensor(y_true)
        found = ops.convert_to_tensor(y_pred)
        if found.shape[-1] is not None and found.shape[-1] < self.metric.k:
            raise ValueError(
                f"`y_pred` must have at least the metric's k={self.metric.k} "
                f"identifiers. Received: shape={tuple(found.shape)}."
            )
        if len(relevant.shape) == 1:
            relevant = ops.expand_dims(relevant, 1)
        strings = keras.backend.standardize_dtype(found.dtype) == "string"
        if not strings:
            relevant = ops.cast(relevant, found.dtype)
        given = relevant != "" if strings else relevant >= 0
        same = ops.expand_dims(found, 2) == ops.expand_dims(relevant, 1)
        same = same & ops.expand_dims(given, 1)  # [batch, found, relevant]
        missed = given & ops.logical_not(ops.any(same, axis=1))
        # keras-rs leaves out what has a label below 0.
        labels = ops.concatenate(
            [
                ops.cast(ops.any(same, axis=2), "float32"),
                ops.where(missed, 1.0, -1.0),
            ],
            axis=1,
        )
        order = ops.cast(ops.arange(ops.shape(labels)[1]), "float32")
        scores = ops.zeros_like(labels) - order
        self.metric.update_state(labels, scores, sample_weight)

    def result(self) -> Tensor:
        """Returns the mean over queries."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Forgets all queries."""
        self.metric.reset_state()

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "metric": keras.saving.serialize_keras_object(self.metric),
        }

    @classmethod
    def from_config(cls, config: Config) -> "SearchMetric":
        """Rebuilds the metric from `get_config`."""
        metric = keras.saving.deserialize_keras_object(config["metric"])
        return cls(**{**config, "metric": metric})
