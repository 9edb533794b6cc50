"""Pictures of the experts and a model card, as a component."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import base_executor
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import path_utils

from keras_moe.atomic_file import atomic_file
from keras_moe.calibration import Certificate
from keras_moe.components import _artifacts as artifacts
from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import split_patterns
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.evaluation._read_evaluation import read_evaluation
from keras_moe.components.report._model_card import model_card
from keras_moe.model_folder import CERTIFICATE
from keras_moe.model_folder import KERAS_MODEL
from keras_moe.models import Cascade
from keras_moe.visualization import LayerLoads
from keras_moe.visualization import collect_expert_load
from keras_moe.visualization import plot_expert_load
from keras_moe.weights import fingerprint

_DPI = 150
_BATCH_SIZE = 256


@dataclasses.dataclass(frozen=True)
class ReportArgs:
    """The arguments of the project's `inputs_fn`.

    Attributes:
        example_files: patterns of the files of the splits.
        custom_config: what the pipeline wants the function to know.

    Example:

    >>> def inputs_fn(args: keras_moe.components.ReportArgs):
    ...     files = tf.io.gfile.glob(args.example_files)
    ...     ...  # read them, and return the inputs of the teacher
    >>> inputs_fn(keras_moe.components.ReportArgs(["Split-validation/*"], {}))
    """

    example_files: Sequence[str]
    custom_config: Mapping[str, Any]


class RouterReportExecutor(base_executor.BaseExecutor):
    """Runs the teacher over examples, draws and writes."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the pictures and the card.

        Raises:
            ValueError: the certificate is one of another model.
        """
        teacher = _keras_model(input_dict["teacher"])
        inputs_fn = udf_utils.get_fn(exec_properties, "inputs_fn")
        inputs = inputs_fn(
            ReportArgs(
                example_files=split_patterns(
                    input_dict["examples"],
                    json.loads(exec_properties["splits"]),
                ),
                custom_config=json.loads(exec_properties["custom_config"]),
            )
        )
        loads = collect_expert_load(teacher, inputs, batch_size=_BATCH_SIZE)
        uri = artifact_utils.get_single_uri(output_dict["expert_load"])
        with written_locally(uri) as directory:
            _draw(loads, directory)
        served, granted, evaluation = (
            input_dict.get(key)
            for key in ("model", "certificate", "evaluation")
        )
        student = _keras_model(served) if served else None
        certificate = _certificate(granted) if granted else None
        if student and certificate:
            _check_granted(student, certificate)
        text = model_card(
            exec_properties["model_name"],
            teacher,
            loads,
            student=student,
            certificate=certificate,
            evaluation=(
                read_evaluation(artifact_utils.get_single_uri(evaluation))
                if evaluation
                else None
            ),
            ranked_by=exec_properties.get("ranked_by"),
        )
        uri = artifact_utils.get_single_uri(output_dict["model_card"])
        with (
            written_locally(uri) as directory,
            atomic_file(directory / "model_card.md") as partial,
        ):
            partial.write_text(text, encoding="utf-8")


def _keras_model(artifacts_: list[types.Artifact]) -> keras.Model:
    uri = artifact_utils.get_single_uri(artifacts_)
    path = os.path.join(path_utils.serving_model_path(uri), KERAS_MODEL)
    if not fileio.exists(path):
        raise FileNotFoundError(
            f"A model must hold its Keras model as {KERAS_MODEL}, beside the "
            f"SavedModel. There is no {path}."
        )
    with read_locally(path) as local:
        return keras.saving.load_model(local, compile=False)


def _certificate(artifacts_: list[types.Artifact]) -> Certificate:
    uri = artifact_utils.get_single_uri(artifacts_)
    with read_locally(os.path.join(uri, CERTIFICATE.name)) as path:
        return Certificate.load(path)


def _check_granted(student: keras.Model, certificate: Certificate) -> None:
    """Raises where a card would promise of one model what another was granted.

    A certificate of exits that names no model is taken as it is.
    """
    if isinstance(student, Cascade):
        student.check_certificate(certificate)
    elif certificate.fingerprint is not None:
        certificate.check(fingerprint=fingerprint(student))


def _draw(loads: LayerLoads, directory: pathlib.Path) -> None:
    figure = plot_expert_load(loads, title="Load of the experts")
    with atomic_file(directory / "expert_load.png") as partial:
        figure.savefig(partial, format="png", dpi=_DPI)
    numbers = {
        name: {"load": load.tolist(), "dropped": dropped}
        for name, load, dropped in zip(
            loads.names, loads.loads, loads.dropped, strict=True
        )
    }
    with atomic_file(directory / "expert_load.json") as partial:
        partial.write_text(json.dumps(numbers, indent=2) + "\n")


class RouterReportSpec(ComponentSpec):
    """Parameters, inputs and outputs of `RouterReport`."""

    PARAMETERS = {
        "inputs_fn": ExecutionParameter(type=str),
        "splits": ExecutionParameter(type=str),
        "model_name": ExecutionParameter(type=str),
        "ranked_by": ExecutionParameter(type=str, optional=True),
        "custom_config": ExecutionParameter(type=str),
    }
    INPUTS = {
        "teacher": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model, optional=True),
        "certificate": ChannelParameter(
            type=artifacts.Certificate, optional=True
        ),
        "evaluation": ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
    }
    OUTPUTS = {
        "expert_load": ChannelParameter(type=artifacts.ExpertLoad),
        "model_card": ChannelParameter(type=artifacts.ModelCard),
    }


class RouterReport(base_component.BaseComponent):
    """Shows where a sparse teacher's tokens go, and writes a model card.

    Inputs:
        teacher: `Model`, sparse, with the Keras model in
            `assets.extra/model.keras`.
        examples: `Examples`, to run the teacher over.
        model: `Model`, optional: what is served.
        certificate: `Certificate`, optional.
        evaluation: `ModelEvaluation`, optional.

    Outputs:
        expert_load: `ExpertLoad`: a heat map of layers and experts, and its
            numbers.
        model_card: `ModelCard`.

    Args:
        teacher: the channel of that input.
        examples: the channel of that input.
        inputs_fn: import path of a function from `ReportArgs` to what
            `keras_moe.visualization.collect_expert_load` runs a model over.
        model_name: for the card.
        splits: of the examples.
        model: the channel of that input.
        certificate: the channel of that input.
        evaluation: the channel of that input.
        ranked_by: the metric by which the card lists the worst slices.
        custom_config: what else `inputs_fn` is to know, as plain values; also
            a fingerprint of its code, see `Distiller`.

    Example:
    ```python
    report = keras_moe.components.RouterReport(
        teacher=trainer.outputs["model"],
        examples=transform.outputs["transformed_examples"],
        inputs_fn="my_project.routing.teacher_inputs",
        model_name="my_model",
        splits=["validation"],
    )
    ```
    """

    SPEC_CLASS = RouterReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RouterReportExecutor)

    def __init__(
        self,
        teacher: types.BaseChannel,
        examples: types.BaseChannel,
        inputs_fn: str,
        model_name: str,
        splits: Sequence[str] = ("eval",),
        model: types.BaseChannel | None = None,
        certificate: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        ranked_by: str | None = None,
        custom_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            RouterReportSpec(
                teacher=teacher,
                examples=examples,
                model=model,
                certificate=certificate,
                evaluation=evaluation,
                inputs_fn=inputs_fn,
                model_name=model_name,
                ranked_by=ranked_by,
                splits=json.dumps(list(splits)),
                custom_config=json.dumps(
                    dict(custom_config or {}), sort_keys=True
                ),
                expert_load=types.Channel(type=artifacts.ExpertLoad),
                model_card=types.Channel(type=artifacts.ModelCard),
            )
        )
