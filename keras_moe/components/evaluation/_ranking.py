"""How well a search answers, for TFMA: recall@k, mean reciprocal rank."""

from typing import Any

import numpy as np

from keras_moe.components.evaluation._ratio_of_sums import RatioMetric
from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.validation import check_size


class RecallAtK(RatioMetric):
    """Mean, over queries, of the share of relevant identifiers in the best k.

    The prediction is a row of identifiers, the best first, with empty ones
    where there is no answer, as `keras_moe.serving.export_search` gives them;
    the label is one relevant identifier, or several. With one it is 1 or 0: the
    share of queries that find theirs.

    Args:
        k: `int`. How many of the best count.
        name: `str` or `None`. The metric's name; `None` for `recall_at_{k}`.
        prediction_key: `str`. The signature's output of identifiers.
        label_key: `str`. The label to take, if the `ModelSpec` names several.
        revision: `str`. Not used in the computation, see `SymbolErrorRate`.

    Raises:
        ValueError: If `k` is not a positive integer; while evaluating, if the
            signature answers fewer than `k`, or an example has no label.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="RecallAtK",
        module="keras_moe.components",
        config='{"k": 10}',
    )
    ```
    """

    def __init__(
        self,
        k: int = 10,
        name: str | None = None,
        prediction_key: str = "identifiers",
        label_key: str = "",
        revision: str = "",
    ) -> None:
        check_size(k=k)
        super().__init__(
            _recall,
            name or f"recall_at_{k}",
            prediction_key,
            revision,
            label_key=label_key,
            k=k,
        )


class MeanReciprocalRank(RatioMetric):
    """Mean, over queries, of 1 / rank of the first relevant identifier.

    A query that finds none among its best k counts 0. Prediction and label are
    as `RecallAtK` takes them.

    Args:
        k: `int`. How many of the best count.
        name: `str` or `None`. The metric's name; `None` for `mrr_at_{k}`.
        prediction_key: `str`. As for `RecallAtK`.
        label_key: `str`. As for `RecallAtK`.
        revision: `str`. As for `RecallAtK`.

    Raises:
        ValueError: As for `RecallAtK`.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="MeanReciprocalRank",
        module="keras_moe.components",
        config='{"k": 100}',
    )
    ```
    """

    def __init__(
        self,
        k: int = 100,
        name: str | None = None,
        prediction_key: str = "identifiers",
        label_key: str = "",
        revision: str = "",
    ) -> None:
        check_size(k=k)
        super().__init__(
            _reciprocal_rank,
            name or f"mrr_at_{k}",
            prediction_key,
            revision,
            label_key=label_key,
            k=k,
        )


def _recall(prediction: Any, label: Any, k: int) -> Sums:
    best, relevant = _best(prediction, k), _relevant(label)
    return len(relevant.intersection(best)) / len(relevant), 1.0


def _reciprocal_rank(prediction: Any, label: Any, k: int) -> Sums:
    relevant = _relevant(label)
    for rank, identifier in enumerate(_best(prediction, k), start=1):
        if identifier in relevant:
            return 1.0 / rank, 1.0
    return 0.0, 1.0


def _best(prediction: Any, k: int) -> list[bytes]:
    answers = np.ravel(prediction)
    if answers.size < k:
        raise ValueError(
            f"The prediction must have at least k={k} identifiers: let the "
            "signature that is evaluated answer more. Received: "
            f"{answers.size}."
        )
    return [_bytes(each) for each in answers[:k]]


def _relevant(label: Any) -> set[bytes]:
    # An empty identifier stands for no answer, which is never the right one.
    relevant = {_bytes(each) for each in np.ravel(label)} - {b""}
    if not relevant:
        raise ValueError(
            "The label of each example must be a relevant identifier, or "
            f"several: see `label_key` of the `ModelSpec`. Received: {label!r}"
        )
    return relevant


def _bytes(value: Any) -> bytes:
    # Integers as well: identifiers need not be texts.
    return value if isinstance(value, bytes) else str(value).encode()
