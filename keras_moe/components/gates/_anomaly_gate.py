"""Stops a pipeline at anomalous data."""

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec

from keras_moe.components._artifacts import DataBlessing
from keras_moe.components.gates._gate_closed_error import GateClosedError

_MOST_NAMED = 3


class AnomalyGateExecutor(base_executor.BaseExecutor):
    """Raises `GateClosedError` where an anomaly was found."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the anomalies of each split.

        Raises:
            GateClosedError: if there is one; it names feature and rule.
        """
        anomalies = artifact_utils.get_single_instance(input_dict["anomalies"])
        found = [
            f"{feature} ({split}): {text}"
            for split in artifact_utils.decode_split_names(
                anomalies.split_names
            )
            for feature, text in _read(anomalies.uri, split)
        ]
        if found:
            named = "; ".join(found[:_MOST_NAMED])
            more = len(found) - _MOST_NAMED
            raise GateClosedError(
                f"the data are anomalous: {named}"
                + (f"; and {more} more" if more > 0 else "")
            )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        blessing.set_int_custom_property("blessed", 1)


def _read(uri: str, split: str) -> list[tuple[str, str]]:
    """Returns (feature, description) of each anomaly of a split."""
    path = os.path.join(uri, f"Split-{split}", DEFAULT_FILE_NAME)
    with fileio.open(path, "rb") as file:
        anomalies = anomalies_pb2.Anomalies.FromString(file.read())
    found = [
        (name, info.description.rstrip("."))
        for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        text = anomalies.dataset_anomaly_info.description
        found.append(("all features", text.rstrip(".")))
    return found


class AnomalyGateSpec(ComponentSpec):
    """Inputs and outputs of `AnomalyGate`."""

    PARAMETERS: dict = {}
    INPUTS = {
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)
    }
    OUTPUTS = {"blessing": ChannelParameter(type=DataBlessing)}


class AnomalyGate(base_component.BaseComponent):
    """Lets a pipeline go on only if its data had no anomalies.

    `ExampleValidator` finds anomalies and goes on. What must not run on
    anomalous data waits for this component:
    `trainer.add_upstream_node(gate)`.

    Inputs:
        anomalies: `ExampleAnomalies`, of `ExampleValidator`.

    Outputs:
        blessing: `DataBlessing`. There is none if there were anomalies: the
            component then fails, with the reason.

    Args:
        anomalies: the channel of that input.

    Example:
    ```python
    gate = keras_moe.components.AnomalyGate(
        anomalies=example_validator.outputs["anomalies"]
    )
    transform.add_upstream_node(gate)
    ```
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AnomalyGateExecutor)

    def __init__(self, anomalies: types.BaseChannel) -> None:
        super().__init__(
            AnomalyGateSpec(
                anomalies=anomalies, blessing=types.Channel(type=DataBlessing)
            )
        )
