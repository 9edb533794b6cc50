"""Certifies a student's exits, as a component."""

import json
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import io_utils
from tfx.utils import path_utils

from keras_moe.calibration import Certificate
from keras_moe.calibration import NotCertifiedError
from keras_moe.calibration import calibrate_exits
from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import load_keras_model
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.gates._gate_closed_error import GateClosedError
from keras_moe.components.training._exit_task import ExitTask
from keras_moe.components.training._exit_task import ExitTaskArgs
from keras_moe.generation import EarlyExitPolicy
from keras_moe.model_folder import CERTIFICATE
from keras_moe.serving.versions._certification import read_certification


class ExitCalibratorExecutor(base_executor.BaseExecutor):
    """Calibrates, and writes model and certificate, or neither."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Certifies a threshold and writes the model that serves it.

        Raises:
            GateClosedError: if no threshold is certified.
            FileNotFoundError: if the student holds no Keras model.
            RuntimeError: if what was exported lacks the certificate.
        """
        settings = json.loads(exec_properties["calibration"])
        policy = EarlyExitPolicy(**settings.pop("policy"))
        student = load_keras_model(input_dict["student"])
        task_fn = udf_utils.get_fn(exec_properties, "task_fn")
        graph = input_dict.get("transform_graph")
        task: ExitTask = task_fn(
            ExitTaskArgs(
                student=student,
                example_files=[
                    io_utils.all_files_pattern(uri)
                    for split in json.loads(exec_properties["splits"])
                    for uri in artifact_utils.get_split_uris(
                        input_dict["examples"], split
                    )
                ],
                transform_graph_path=(
                    artifact_utils.get_single_uri(graph) if graph else None
                ),
                max_length=settings["max_length"],
                custom_config=json.loads(exec_properties["custom_config"]),
            )
        )
        try:
            certificate = calibrate_exits(
                student,
                task.token_ids,
                policy,
                loss=task.loss,
                verbose=0,
                **settings,
            )
        except NotCertifiedError as error:
            raise GateClosedError(f"no certificate: {error}") from error
        model = artifact_utils.get_single_instance(output_dict["model"])
        uri = path_utils.serving_model_dir(model.uri)
        with written_locally(uri) as directory:
            task.export(directory, policy, certificate)
            _check_exported(directory, certificate)
        granted = artifact_utils.get_single_instance(output_dict["certificate"])
        with written_locally(granted.uri) as directory:
            certificate.save(directory / CERTIFICATE.name)
        granted.set_string_custom_property("certificate", certificate.to_json())


def _check_exported(directory: pathlib.Path, certificate: Certificate) -> None:
    """Raises unless what will be served carries this very certificate."""
    found = read_certification(directory)
    if found is None or found.certificate != certificate:
        raise RuntimeError(
            "`export` of the task must write the model with the certificate "
            "that it is given: `keras_moe.serving.export(..., certificate="
            "certificate)`. There is none such at "
            f"{directory / CERTIFICATE}."
        )


class ExitCalibratorSpec(ComponentSpec):
    """Parameters, inputs and outputs of `ExitCalibrator`."""

    PARAMETERS = {
        "task_fn": ExecutionParameter(type=str),
        "splits": ExecutionParameter(type=str),
        # JSON text: ML Metadata would round numbers to six decimals.
        "calibration": ExecutionParameter(type=str),
        "custom_config": ExecutionParameter(type=str),
    }
    INPUTS = {
        "student": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(
            type=standard_artifacts.TransformGraph, optional=True
        ),
    }
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "certificate": ChannelParameter(type=artifacts.Certificate),
    }


class ExitCalibrator(base_component.BaseComponent):
    """Certifies how early a student's tokens may leave, and exports it so.

    What it outputs is what is evaluated, validated and pushed: the model with
    the certified threshold as its default. Where nothing is certified there is
    no model, and so nothing to push: the component fails, with the reason.

    Inputs:
        student: `Model`, with the Keras model in `assets.extra/model.keras`.
        examples: `Examples`, which had no part in training or in any choice.
        transform_graph: `TransformGraph`, optional; for the export.

    Outputs:
        model: `Model`, certified, with `assets.extra/certificate.json`.
        certificate: `Certificate`.

    Args:
        student: the channel of that input.
        examples: the channel of that input.
        task_fn: import path of a function from `ExitTaskArgs` to `ExitTask`:
            how to read the examples, what an early answer costs, and how to
            export.
        policy: the policy but for its threshold.
        thresholds: candidates, from the safest to the boldest.
        tolerance: greatest expected loss, between 0 and 1.
        confidence_level: between 0 and 1.
        max_length: greatest number of tokens of an answer.
        splits: of the examples, to calibrate on.
        transform_graph: the channel of that input.
        custom_config: what else `task_fn` is to know, as plain values; also a
            fingerprint of its code, see `Distiller`.

    Example:
    ```python
    calibrator = keras_moe.components.ExitCalibrator(
        student=distiller.outputs["student"],
        examples=example_gen.outputs["examples"],
        task_fn="my_project.exits.exit_task",
        policy=keras_moe.generation.EarlyExitPolicy("softmax"),
        thresholds=[0.99, 0.95, 0.9],
        tolerance=0.02,
        max_length=32,
    )
    ```
    """

    SPEC_CLASS = ExitCalibratorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ExitCalibratorExecutor)

    def __init__(
        self,
        student: types.BaseChannel,
        examples: types.BaseChannel,
        task_fn: str,
        policy: EarlyExitPolicy,
        thresholds: Sequence[float],
        tolerance: float,
        confidence_level: float = 0.95,
        max_length: int = 64,
        splits: Sequence[str] = ("calibration",),
        transform_graph: types.BaseChannel | None = None,
        custom_config: Mapping[str, Any] | None = None,
    ) -> None:
        calibration = {
            "policy": policy.to_dict(),
            "thresholds": list(thresholds),
            "tolerance": tolerance,
            "confidence_level": confidence_level,
            "max_length": max_length,
        }
        super().__init__(
            ExitCalibratorSpec(
                student=student,
                examples=examples,
                transform_graph=transform_graph,
                task_fn=task_fn,
                splits=json.dumps(list(splits)),
                calibration=json.dumps(calibration, sort_keys=True),
                custom_config=json.dumps(
                    dict(custom_config or {}), sort_keys=True
                ),
                model=types.Channel(type=standard_artifacts.Model),
                certificate=types.Channel(type=artifacts.Certificate),
            )
        )
