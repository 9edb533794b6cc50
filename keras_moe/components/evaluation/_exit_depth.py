"""How deep answers go, for TFMA: mean exit layer, layers per answer."""

from typing import Any

import numpy as np

from keras_moe.components.evaluation._ratio_of_sums import RatioMetric
from keras_moe.components.evaluation._ratio_of_sums import Sums


class MeanExitLayer(RatioMetric):
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
        super().__init__(_over_tokens, name, prediction_key, revision)


class LayersPerAnswer(RatioMetric):
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
        super().__init__(_over_examples, name, prediction_key, revision)


def _over_tokens(prediction: Any, label: Any) -> Sums:
    layers = np.asarray(prediction)
    return float(layers.sum()), float(np.count_nonzero(layers))


def _over_examples(prediction: Any, label: Any) -> Sums:
    return float(np.asarray(prediction).sum()), 1.0
