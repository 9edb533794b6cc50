"""How deep answers go, for TFMA: mean exit layer, layers per answer."""

from typing import Any

import numpy as np
from tensorflow_model_analysis.metrics import metric_types

from keras_moe.components.evaluation._ratio_of_sums import Sums
from keras_moe.components.evaluation._ratio_of_sums import computations


class MeanExitLayer(metric_types.Metric):
    """Mean, over tokens, of the layer after which each left.

    Args:
        name: `str`. The metric's name.
        prediction_key: `str`. The signature's output of exit layers, int
            `(batch, length)`, 0 for padding.
        revision: `str`. Not used in the computation, see `SymbolErrorRate`.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="MeanExitLayer", module="keras_moe.components"
    )
    ```
    """

    def __init__(
        self,
        name: str = "mean_exit_layer",
        prediction_key: str = "exit_layer",
        revision: str = "",
    ) -> None:
        super().__init__(
            _mean_exit_layer,
            name=name,
            prediction_key=prediction_key,
            revision=revision,
        )


class LayersPerAnswer(metric_types.Metric):
    """Mean, over examples, of the decoder layers that an answer took.

    A proxy of latency that does not depend on the machine: decoding one row
    takes a time that grows with the number of layers that run for its tokens.

    Args:
        name: `str`. The metric's name.
        prediction_key: `str`. As for `MeanExitLayer`.
        revision: `str`. Not used in the computation, see `SymbolErrorRate`.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="LayersPerAnswer", module="keras_moe.components"
    )
    ```
    """

    def __init__(
        self,
        name: str = "layers_per_answer",
        prediction_key: str = "exit_layer",
        revision: str = "",
    ) -> None:
        super().__init__(
            _layers_per_answer,
            name=name,
            prediction_key=prediction_key,
            revision=revision,
        )


def _over_tokens(prediction: Any, label: Any) -> Sums:
    layers = np.asarray(prediction)
    return float(layers.sum()), float(np.count_nonzero(layers))


def _over_examples(prediction: Any, label: Any) -> Sums:
    return float(np.asarray(prediction).sum()), 1.0


def _mean_exit_layer(
    name: str,
    prediction_key: str,
    revision: str,
    model_names: list[str] | None = None,
    **_: object,
) -> metric_types.MetricComputations:
    del revision  # part of the configuration, not of the computation
    return computations(name, prediction_key, _over_tokens, model_names)


def _layers_per_answer(
    name: str,
    prediction_key: str,
    revision: str,
    model_names: list[str] | None = None,
    **_: object,
) -> metric_types.MetricComputations:
    del revision  # part of the configuration, not of the computation
    return computations(name, prediction_key, _over_examples, model_names)
