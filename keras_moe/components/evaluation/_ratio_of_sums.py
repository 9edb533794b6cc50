"""The shape that error rates share: a sum over examples by another sum."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types

Sums = tuple[float, float]
# (prediction, reference) -> what one example adds to (numerator, denominator).
# It travels to Beam's workers, so it must be picklable.
Score = Callable[[Any, Any], Sums]


class RatioOfSums(beam.CombineFn):
    """Combines per-example scores into one ratio.

    Args:
        key: The metric's key.
        prediction_key: The output of the signature that is the prediction.
        score: Scores one example from its prediction and its label, as TFMA has
            them; `text_of` reads what is text.
    """

    def __init__(
        self, key: metric_types.MetricKey, prediction_key: str, score: Score
    ) -> None:
        self._key = key
        self._prediction_key = prediction_key
        self._score = score

    def create_accumulator(self) -> Sums:
        """Returns empty sums."""
        return 0.0, 0.0

    def add_input(
        self, accumulator: Sums, element: metric_types.StandardMetricInputs
    ) -> Sums:
        """Adds one example."""
        # A candidate beside a baseline has a name; a single model has none.
        name = self._key.model_name or None
        prediction = element.get_predictions(name)
        # A signature with several outputs gives TFMA a dictionary of them.
        if isinstance(prediction, Mapping):
            prediction = prediction[self._prediction_key]
        numerator, denominator = self._score(
            prediction, element.get_labels(name)
        )
        return accumulator[0] + numerator, accumulator[1] + denominator

    def merge_accumulators(self, accumulators: Iterable[Sums]) -> Sums:
        """Adds sums up."""
        numerator = denominator = 0.0
        for a, b in accumulators:
            numerator, denominator = numerator + a, denominator + b
        return numerator, denominator

    def extract_output(
        self, accumulator: Sums
    ) -> dict[metric_types.MetricKey, float]:
        """Divides; without any example the rate is not a number."""
        numerator, denominator = accumulator
        rate = numerator / denominator if denominator else float("nan")
        return {self._key: rate}


def computations(
    name: str,
    prediction_key: str,
    score: Score,
    model_names: list[str] | None,
) -> metric_types.MetricComputations:
    """Returns one computation for each model under evaluation."""
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name)
        for model_name in model_names or [""]
    ]
    return [
        metric_types.MetricComputation(
            keys=[key],
            preprocessors=None,
            combiner=RatioOfSums(key, prediction_key, score),
        )
        for key in keys
    ]


def text_of(value: Any, what: str) -> str:
    """Returns the one string of an example's prediction or label.

    Args:
        value: as TFMA has it.
        what: `"prediction"` or `"label"`, for the error.

    Raises:
        ValueError: if it is anything but one string.
    """
    values = np.ravel(value)
    if values.size != 1 or not isinstance(values[0], bytes | str):
        raise ValueError(
            f"The {what} of each example must be one string: see "
            "`prediction_key` of the metric, `label_key` of the `ModelSpec`. "
            f"Received: {value!r}"
        )
    text = values[0]
    return text.decode() if isinstance(text, bytes) else text
