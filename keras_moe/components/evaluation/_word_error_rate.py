"""Word error rate for TFMA."""

import functools
from typing import Any

from tensorflow_model_analysis.metrics import metric_types

from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.components.evaluation._ratio_of_sums import computations
from keras_moe.components.evaluation._ratio_of_sums import text_of
from keras_moe.metrics._edit_distance import word_error_rate


class WordErrorRate(metric_types.Metric):
    """Share of words whose prediction is not a listed pronunciation.

    The prediction and the label are as `PhonemeErrorRate` takes them.

    Args:
        name: `str`. The metric's name.
        mode: `"lenient"`: any listed pronunciation will do; `"strict"`: only
            the first listed.
        prediction_key: `str`. The signature's output to take, if it has
            several.
        separator: `str`. What stands between alternatives.
        revision: `str`. Not used in the computation, see `PhonemeErrorRate`.
    """

    def __init__(
        self,
        name: str = "word_error_rate",
        mode: str = "lenient",
        prediction_key: str = "phonemes",
        separator: str = "|",
        revision: str = "",
    ) -> None:
        super().__init__(
            _computations,
            name=name,
            mode=mode,
            prediction_key=prediction_key,
            separator=separator,
            revision=revision,
        )


def _score(prediction: Any, label: Any, mode: str, separator: str) -> Sums:
    said = text_of(prediction, "prediction").split()
    listed = text_of(label, "label").split(separator)
    alternatives = [pronunciation.split() for pronunciation in listed]
    wrong = word_error_rate([said], [alternatives], mode)
    return wrong, 1.0


def _computations(
    name: str,
    mode: str,
    prediction_key: str,
    separator: str,
    revision: str,
    model_names: list[str] | None = None,
    **_: object,
) -> metric_types.MetricComputations:
    del revision  # part of the configuration, not of the computation
    score = functools.partial(_score, mode=mode, separator=separator)
    return computations(name, prediction_key, score, model_names)
