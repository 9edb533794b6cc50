"""What an Evaluator measures, and within which bounds it blesses."""

import json
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

_ROOM = "keras_moe.components"


def metric_config(
    class_name: str,
    *bounds: config_pb2.PerSliceMetricThreshold,
    **arguments: Any,
) -> config_pb2.MetricConfig:
    """Names a metric of this room, for a `MetricsSpec`.

    Example:
    ```python
    keras_moe.components.metric_config(
        "RecallAtK",
        keras_moe.components.overall_bound(at_least=0.5, may_fall_by=0.01),
        k=10,
    )
    ```

    Args:
        class_name: Such as `"RecallAtK"`.
        *bounds: See `overall_bound`.
        **arguments: Of the class, as plain values.
    """
    return config_pb2.MetricConfig(
        class_name=class_name,
        module=_ROOM,
        config=json.dumps(arguments),
        per_slice_thresholds=bounds,
    )


def overall_bound(
    at_most: float | None = None,
    may_rise_by: float | None = None,
    at_least: float | None = None,
    may_fall_by: float | None = None,
) -> config_pb2.PerSliceMetricThreshold:
    """Bounds a metric on all examples together.

    TFMA would hold a plain threshold against every slice. A change counts once
    there is a last blessed model.

    Example:
    ```python
    keras_moe.components.overall_bound(at_most=0.1, may_rise_by=0.005)
    ```

    Args:
        at_most: Nothing above it is blessed.
        may_rise_by: Nor what is greater by more than that than the last blessed
            model. For metrics of which less is better.
        at_least: Nothing below it is blessed.
        may_fall_by: Nor what is less by more than that than the last blessed
            model. For metrics of which more is better.

    Raises:
        ValueError: If it is to rise and to fall, or there is no bound.
    """
    given = (at_most, may_rise_by, at_least, may_fall_by)
    if may_rise_by is not None and may_fall_by is not None:
        raise ValueError(
            "`may_rise_by` and `may_fall_by` must not both be given. Received: "
            f"may_rise_by={may_rise_by}, may_fall_by={may_fall_by}."
        )
    if all(bound is None for bound in given):
        raise ValueError(
            "One of `at_most`, `may_rise_by`, `at_least`, `may_fall_by` must "
            "be given. Received: none."
        )
    threshold = config_pb2.MetricThreshold()
    if at_most is not None:
        threshold.value_threshold.upper_bound.value = at_most
    if at_least is not None:
        threshold.value_threshold.lower_bound.value = at_least
    change = threshold.change_threshold
    if may_rise_by is not None:
        change.direction = config_pb2.MetricDirection.LOWER_IS_BETTER
        change.absolute.value = may_rise_by
    if may_fall_by is not None:
        change.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
        change.absolute.value = -may_fall_by
    return config_pb2.PerSliceMetricThreshold(
        slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold
    )
