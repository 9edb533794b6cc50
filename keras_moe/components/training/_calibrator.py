"""The steps of every calibrator: load, certify, export, or nothing at all."""

import abc
import json
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import keras
from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import path_utils

from keras_moe.calibration import Certificate
from keras_moe.calibration import NotCertifiedError
from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import load_keras_model
from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.gates._gate_closed_error import GateClosedError
from keras_moe.components.training._calibration_task import CalibrationTask
from keras_moe.components.training._calibration_task import CalibrationTaskArgs
from keras_moe.model_folder import CERTIFICATE
from keras_moe.serving.versions._certification import read_certification

PARAMETERS = {
    "task_fn": ExecutionParameter(type=str),
    # What splits of the examples are for, to their names.
    "splits": ExecutionParameter(type=str),
    # JSON text: ML Metadata would round numbers to six decimals.
    "calibration": ExecutionParameter(type=str),
    "custom_config": ExecutionParameter(type=str),
}
EXAMPLES = {
    "examples": ChannelParameter(type=standard_artifacts.Examples),
    "transform_graph": ChannelParameter(
        type=standard_artifacts.TransformGraph, optional=True
    ),
}
OUTPUTS = {
    "model": ChannelParameter(type=standard_artifacts.Model),
    "certificate": ChannelParameter(type=artifacts.Certificate),
}


class Certified(NamedTuple):
    """What a calibrator certified.

    Attributes:
        served: for the task's `export`.
        certificate: of it.
        task: that exports it.
    """

    served: Any
    certificate: Certificate
    task: CalibrationTask


class Calibration(NamedTuple):
    """What a calibrator has at hand.

    Attributes:
        models: loaded, in the order of the inputs.
        splits: what splits are for, to the patterns of their files.
        settings: of the component.
        task: makes the project's task of the splits for something.
    """

    models: tuple[keras.Model, ...]
    splits: Mapping[str, list[str]]
    settings: Mapping[str, Any]
    task: Callable[[str], CalibrationTask]


class CalibratorExecutor(base_executor.BaseExecutor, abc.ABC):
    """Calibrates, and writes model and certificate, or neither."""

    # The inputs that are models, in the order of `CalibrationTaskArgs.models`.
    MODELS: tuple[str, ...]

    @abc.abstractmethod
    def certify(self, calibration: Calibration) -> Certified:
        """Certifies a threshold.

        Raises:
            NotCertifiedError: if there is none.
        """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Certifies a threshold and writes the model that serves it.

        Raises:
            GateClosedError: if no threshold is certified.
            FileNotFoundError: if an input holds no Keras model.
            ValueError: if what was given cannot be calibrated.
            RuntimeError: if what was exported lacks the certificate.
        """
        calibration = _read(self.MODELS, input_dict, exec_properties)
        try:
            certified = self.certify(calibration)
        except NotCertifiedError as error:
            raise GateClosedError(f"no certificate: {error}") from error
        certificate = certified.certificate
        model = artifact_utils.get_single_instance(output_dict["model"])
        uri = path_utils.serving_model_dir(model.uri)
        with written_locally(uri) as directory:
            certified.task.export(directory, certified.served, certificate)
            _check_exported(directory, certificate)
        granted = artifact_utils.get_single_instance(output_dict["certificate"])
        with written_locally(granted.uri) as directory:
            certificate.save(directory / CERTIFICATE.name)
        granted.set_string_custom_property("certificate", certificate.to_json())


def _read(
    keys: tuple[str, ...],
    input_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
) -> Calibration:
    models = tuple(load_keras_model(input_dict[key]) for key in keys)
    folders = tuple(
        path_utils.serving_model_path(
            artifact_utils.get_single_uri(input_dict[key])
        )
        for key in keys
    )
    settings = json.loads(exec_properties["calibration"])
    graph = input_dict.get("transform_graph")
    splits = {
        purpose: split_patterns(input_dict["examples"], names)
        for purpose, names in json.loads(exec_properties["splits"]).items()
    }

    def task(purpose: str) -> CalibrationTask:
        task_fn = udf_utils.get_fn(exec_properties, "task_fn")
        return task_fn(
            CalibrationTaskArgs(
                models=models,
                model_folders=folders,
                example_files=splits[purpose],
                transform_graph_path=(
                    artifact_utils.get_single_uri(graph) if graph else None
                ),
                max_length=settings["max_length"],
                custom_config=json.loads(exec_properties["custom_config"]),
            )
        )

    return Calibration(models, splits, settings, task)


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
