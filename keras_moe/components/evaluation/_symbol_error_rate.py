"""Symbol error rate for TFMA."""

from typing import Any

from keras_moe.components.evaluation._answer_texts import check_separators
from keras_moe.components.evaluation._answer_texts import split_answers
from keras_moe.components.evaluation._ratio_of_sums import RatioMetric
from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.metrics import nearest_reference


class SymbolErrorRate(RatioMetric):
    """Edits to the nearest accepted answer over its length.

    `keras_moe.metrics.symbol_error_rate` of texts. The prediction is a text of
    symbols, with `separator` between them; the label is one accepted answer,
    or several with `alternatives_separator` between them.

    Example:
    ```python
    config_pb2.ModelSpec(
        signature_name="examples",
        label_key="translations",
    )
    config_pb2.MetricConfig(
        class_name="SymbolErrorRate",
        module="keras_moe.components",
        config='{"name": "word_error_rate", "alternatives_separator": "|"}',
    )
    ```

    Args:
        name: `str`. The metric's name.
        prediction_key: `str`. The signature's output to take, if it has
            several.
        label_key: `str`. The label to take, if the `ModelSpec` names several.
        separator: `str`. What stands between symbols; `""` if each character
            is a symbol.
        alternatives_separator: `str`. What stands between accepted answers;
            `""` if each label is a single answer.
        revision: `str`. Not used in the computation. TFX caches an evaluation
            by its configuration: a fingerprint of the code here makes an edit
            count as a change.

    Raises:
        ValueError: If `alternatives_separator` stands in `separator`, or one
            of them is no text.
    """

    def __init__(
        self,
        name: str = "symbol_error_rate",
        prediction_key: str = "outputs",
        label_key: str = "",
        separator: str = " ",
        alternatives_separator: str = "",
        revision: str = "",
    ) -> None:
        check_separators(separator, alternatives_separator)
        super().__init__(
            _score,
            name,
            prediction_key,
            revision,
            label_key=label_key,
            separator=separator,
            alternatives_separator=alternatives_separator,
        )


def _score(
    prediction: Any, label: Any, separator: str, alternatives_separator: str
) -> Sums:
    answer, references = split_answers(
        prediction, label, separator, alternatives_separator
    )
    edits, lengths = nearest_reference([answer], [references])
    return float(edits[0]), float(lengths[0])
