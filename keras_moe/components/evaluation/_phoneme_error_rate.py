"""Phoneme error rate for TFMA."""

import functools
from typing import Any

from tensorflow_model_analysis.metrics import metric_types

from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.components.evaluation._ratio_of_sums import computations
from keras_moe.components.evaluation._ratio_of_sums import text_of
from keras_moe.metrics._edit_distance import nearest_reference


class PhonemeErrorRate(metric_types.Metric):
    """Edits to the nearest listed pronunciation over its length.

    The prediction is text, phonemes separated by spaces; the label lists the
    accepted pronunciations, separated by `separator`.

    Example:
    ```python
    config_pb2.ModelSpec(
        signature_name="examples",
        label_key="pronunciations",
    )
    config_pb2.MetricConfig(
        class_name="PhonemeErrorRate", module="keras_moe.components"
    )
    ```

    Args:
        name: `str`. The metric's name.
        prediction_key: `str`. The signature's output to take, if it has
            several.
        separator: `str`. What stands between alternatives.
        revision: `str`. Not used in the computation. TFX caches an evaluation
            by its configuration: a fingerprint of the code here makes an edit
            count as a change.
    """

    def __init__(
        self,
        name: str = "phoneme_error_rate",
        prediction_key: str = "phonemes",
        separator: str = "|",
        revision: str = "",
    ) -> None:
        super().__init__(
            _computations,
            name=name,
            prediction_key=prediction_key,
            separator=separator,
            revision=revision,
        )


def _score(prediction: Any, label: Any, separator: str) -> Sums:
    said = text_of(prediction, "prediction").split()
    listed = text_of(label, "label").split(separator)
    alternatives = [pronunciation.split() for pronunciation in listed]
    edits, lengths = nearest_reference([said], [alternatives])
    return float(edits[0]), float(lengths[0])


def _computations(
    name: str,
    prediction_key: str,
    separator: str,
    revision: str,
    model_names: list[str] | None = None,
    **_: object,
) -> metric_types.MetricComputations:
    del revision  # part of the configuration, not of the computation
    score = functools.partial(_score, separator=separator)
    return computations(name, prediction_key, score, model_names)
