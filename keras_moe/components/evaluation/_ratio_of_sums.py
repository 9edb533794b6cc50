"""Metrics that are a sum over examples divided by another sum."""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types

Sums = tuple[float, float]
# (prediction, reference) -> what one example adds to (numerator, denominator).
# Beam sends the function to its workers, so it must be picklable.
Score = Callable[[Any, Any], Sums]


class RatioOfSums(beam.CombineFn):
    """Combines per-example scores into one ratio.

    A baseline may be a model of another kind, without the output that is
    measured: its ratio is not a number.

    Args:
        key: The metric's key.
        prediction_key: The output of the signature that is the prediction.
        score: Scores one example from its prediction and its label, as TFMA has
            them.
        label_key: Which label counts, where a `ModelSpec` names several.
    """

    def __init__(
        self,
        key: metric_types.MetricKey,
        prediction_key: str,
        score: Score,
        label_key: str = "",
    ) -> None:
        self._key = key
        self._prediction_key = prediction_key
        self._score = score
        self._label_key = label_key
        self._failure = ""

    def __str__(self) -> str:
        """Says which metric it is, and why it failed.

        TFMA and Beam raise errors of their own, with the text of this object
        and without the error that it met.
        """
        return f"metric {self._key.name!r}" + self._failure

    def create_accumulator(self) -> Sums:
        """Returns empty sums."""
        return 0.0, 0.0

    def add_input(
        self, accumulator: Sums, element: metric_types.StandardMetricInputs
    ) -> Sums:
        """Adds one example."""
        if self._is_other_kind(element):
            return accumulator
        try:
            numerator, denominator = self._score(*self._inputs(element))
        except ValueError as error:
            self._failure = f": {error}"
            raise ValueError(str(self)) from error
        return accumulator[0] + numerator, accumulator[1] + denominator

    def _is_other_kind(
        self, element: metric_types.StandardMetricInputs
    ) -> bool:
        """Tells whether a baseline lacks the output that is measured."""
        name = self._key.model_name
        if name != constants.BASELINE_KEY:
            return False
        outputs = element.get_predictions(name)
        return (
            isinstance(outputs, Mapping) and self._prediction_key not in outputs
        )

    def _inputs(
        self, element: metric_types.StandardMetricInputs
    ) -> tuple[Any, Any]:
        # A candidate beside a baseline has a name; a single model has none.
        name = self._key.model_name or None
        predictions = element.get_predictions(name)
        labels = element.get_labels(name)
        return (
            _pick(predictions, "prediction", self._prediction_key),
            _pick(labels, "label", self._label_key),
        )

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


class RatioMetric(metric_types.Metric):
    """Base of metrics that are a ratio of sums over examples.

    Args:
        score: Scores one example from its prediction, its label and the
            options.
        name: The metric's name.
        prediction_key: The signature's output that is the prediction.
        revision: Not used in the computation, see `SymbolErrorRate`.
        **options: `label_key`, the label to take, where there are labels; and
            what `score` is given by name.
    """

    def __init__(
        self,
        score: Callable[..., Sums],
        name: str,
        prediction_key: str,
        revision: str,
        **options: Any,
    ) -> None:
        super().__init__(
            functools.partial(_computations, score=score),
            name=name,
            prediction_key=prediction_key,
            revision=revision,
            **options,
        )


def _computations(
    name: str,
    prediction_key: str,
    revision: str,
    label_key: str = "",
    # TFMA gives what it finds among the arguments that go by position.
    model_names: list[str] | None = None,
    *,
    score: Callable[..., Sums],
    **options: Any,
) -> metric_types.MetricComputations:
    """Returns one computation for each model under evaluation."""
    del revision  # part of the configuration, not of the computation
    keys = [
        metric_types.MetricKey(name=name, model_name=model_name)
        for model_name in model_names or [""]
    ]
    of_example = functools.partial(score, **options)
    return [
        metric_types.MetricComputation(
            keys=[key],
            preprocessors=None,
            combiner=RatioOfSums(key, prediction_key, of_example, label_key),
        )
        for key in keys
    ]


def _pick(value: Any, what: str, key: str) -> Any:
    """Returns one of several predictions or labels, or the only one.

    A signature with several outputs, or a `ModelSpec` with several
    `label_keys`, gives TFMA a dictionary of them.
    """
    if not isinstance(value, Mapping):
        return value
    if key not in value:
        raise ValueError(
            f"`{what}_key` must be one of {', '.join(sorted(value))}. "
            f"Received: {what}_key={key!r}."
        )
    return value[key]
