"""Sequence error rate for TFMA."""

from typing import Any

from keras_moe.components.evaluation._answer_texts import check_separators
from keras_moe.components.evaluation._answer_texts import split_answers
from keras_moe.components.evaluation._ratio_of_sums import RatioMetric
from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.metrics import sequence_error_rate
from keras_moe.metrics._edit_distance import MODES
from keras_moe.validation import check_choice


class SequenceErrorRate(RatioMetric):
    """Share of examples whose prediction is not an accepted answer.

    `keras_moe.metrics.sequence_error_rate` of texts. Prediction and label are
    as `SymbolErrorRate` takes them.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="SequenceErrorRate",
        module="keras_moe.components",
        config='{"mode": "strict", "alternatives_separator": "|"}',
    )
    ```

    Args:
        name: `str`. The metric's name.
        mode: `"lenient"`: any accepted answer will do; `"strict"`: only the
            first one.
        prediction_key: `str`. The signature's output to take, if it has
            several.
        label_key: `str`. The label to take, if the `ModelSpec` names several.
        separator: `str`. What stands between symbols; `""` if each character
            is a symbol.
        alternatives_separator: `str`. What stands between accepted answers;
            `""` if each label is a single answer.
        revision: `str`. Not used in the computation, see `SymbolErrorRate`.

    Raises:
        ValueError: If `mode` is another, `alternatives_separator` stands in
            `separator`, or one of them is no text.
    """

    def __init__(
        self,
        name: str = "sequence_error_rate",
        mode: str = "lenient",
        prediction_key: str = "outputs",
        label_key: str = "",
        separator: str = " ",
        alternatives_separator: str = "",
        revision: str = "",
    ) -> None:
        check_choice(MODES, mode=mode)
        check_separators(separator, alternatives_separator)
        super().__init__(
            _score,
            name,
            prediction_key,
            revision,
            label_key=label_key,
            mode=mode,
            separator=separator,
            alternatives_separator=alternatives_separator,
        )


def _score(
    prediction: Any,
    label: Any,
    mode: str,
    separator: str,
    alternatives_separator: str,
) -> Sums:
    answer, references = split_answers(
        prediction, label, separator, alternatives_separator
    )
    return sequence_error_rate([answer], [references], mode), 1.0
