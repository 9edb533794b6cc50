"""The Evaluator's figures, as plain numbers."""

from collections.abc import Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

OVERALL = "overall"
# TFMA names models when it evaluates a candidate beside a baseline.
_CANDIDATE = "candidate"

Figures = dict[str, float]


def read_evaluation(
    uri: str, model_name: str | None = None
) -> dict[str, Figures]:
    """Reads the figures of each slice.

    Args:
        uri: of a `ModelEvaluation` artifact.
        model_name: `"candidate"` or `"baseline"`; `None` for the candidate,
            or for the only model.

    Returns:
        Slice, such as `"letters=q"`, to metric to value. All examples together
        are the slice `"overall"`, which comes first.

    Example:
    ```python
    (evaluation,) = evaluator.outputs["evaluation"].get()
    figures = keras_moe.components.read_evaluation(evaluation.uri)
    figures["overall"]["symbol_error_rate"]
    ```
    """
    names = [model_name] if model_name else [None, _CANDIDATE]
    for name in names:
        result = tfma.load_eval_result(uri, model_name=name)
        figures = {
            _slice_name(key): _numbers(metrics)
            for key, metrics in result.slicing_metrics
        }
        if any(figures.values()):
            first = {OVERALL: figures.pop(OVERALL, {})}
            return first | dict(sorted(figures.items()))
    return {}


def read_failures(uri: str) -> list[str]:
    """Returns why the Evaluator refused a model, a clause for each reason.

    Args:
        uri: of a `ModelEvaluation` artifact.

    Example:
    ```python
    (evaluation,) = evaluator.outputs["evaluation"].get()
    for reason in keras_moe.components.read_failures(evaluation.uri):
        print(reason)
    ```
    """
    result = tfma.load_validation_result(uri)
    found = []
    for part in result.metric_validations_per_slice:
        where = _slice_name(_slice_key(part.slice_key))
        for failure in part.failures:
            value = failure.metric_value.double_value.value
            against = _bound(failure.metric_threshold)
            compared = (
                "differs from the last blessed model's by "
                if failure.metric_key.is_diff
                else "is "
            )
            found.append(
                f"{failure.metric_key.name} ({where}) {compared}{value:.4f}, "
                f"and {against}"
            )
    if result.missing_thresholds:
        found.append("thresholds were not evaluated")
    return found


def _bound(threshold: Any) -> str:
    value, change = threshold.value_threshold, threshold.change_threshold
    if threshold.HasField("change_threshold"):
        higher = change.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER
        least = "at least" if higher else "at most"
        return f"{least} {change.absolute.value:.4f} is accepted"
    if value.HasField("upper_bound"):
        return f"at most {value.upper_bound.value:.4f} is accepted"
    return f"at least {value.lower_bound.value:.4f} is accepted"


def _slice_key(key: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (single.column, getattr(single, single.WhichOneof("kind")))
        for single in key.single_slice_keys
    )


def _slice_name(key: Sequence[tuple[str, Any]]) -> str:
    parts = [
        f"{column}={_text(value)}" for column, value in key if column != ""
    ]
    return ", ".join(parts) or OVERALL


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _numbers(metrics: Any) -> Figures:
    # Output name and sub-key, both empty here, stand before the metrics.
    by_name = metrics.get("", {}).get("", {})
    return {
        # JSON has no NaN: TFMA writes it as text.
        name: float(value["doubleValue"])
        for name, value in by_name.items()
        if "doubleValue" in value
    }
