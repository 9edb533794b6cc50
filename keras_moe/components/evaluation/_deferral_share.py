"""How often a cascade asks its next stage, for TFMA."""

from typing import Any

import numpy as np

from keras_moe.components.evaluation._ratio_of_sums import RatioMetric
from keras_moe.components.evaluation._ratio_of_sums import Sums


class DeferralShare(RatioMetric):
    """Share of examples that a cascade's first stage deferred.

    Not a number where there was no example, nor for a baseline that is no
    cascade: 0 means that nothing was deferred.

    Args:
        name: `str`. The metric's name.
        prediction_key: `str`. The signature's output of stages, int
            `(batch,)`, the number of the stage that answered, from 0.
        revision: `str`. Not used in the computation, see `SymbolErrorRate`.

    Example:
    ```python
    config_pb2.MetricConfig(
        class_name="DeferralShare", module="keras_moe.components"
    )
    ```
    """

    def __init__(
        self,
        name: str = "deferral_share",
        prediction_key: str = "stage",
        revision: str = "",
    ) -> None:
        super().__init__(_is_deferred, name, prediction_key, revision)


def _is_deferred(prediction: Any, label: Any) -> Sums:
    stage = np.asarray(prediction)
    if stage.size != 1 or stage.dtype.kind not in "iu":
        raise ValueError(
            "`prediction_key` must name an integer for each example, the "
            "number of the stage that answered. Received: "
            f"{stage.dtype} {stage.shape}."
        )
    return float(stage.item() > 0), 1.0
