"""Trains a student from a teacher, as a component."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx import v1 as tfx
from tfx.components.trainer import executor as trainer_executor
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import json_utils
from tfx.utils import path_utils

# Key in `custom_config`: the directory of the student to go on from.
BASE_STUDENT = "base_student"


class DistillerExecutor(trainer_executor.GenericExecutor):
    """Calls `run_fn` as TFX's trainer does, with a teacher as base model."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains the student.

        Raises:
            RuntimeError: if `run_fn` wrote no model.
        """
        # The inherited `Do` reads and writes under the trainer's keys; this
        # component's own keys tell students from trained models.
        inputs = {**input_dict, "base_model": input_dict["teacher"]}
        base = inputs.pop(BASE_STUDENT, None)
        properties = dict(exec_properties)
        if base:
            config = json_utils.loads(properties["custom_config"]) or {}
            config[BASE_STUDENT] = path_utils.serving_model_path(
                artifact_utils.get_single_uri(base)
            )
            properties["custom_config"] = json_utils.dumps(config)
        outputs = {
            "model": output_dict["student"],
            "model_run": output_dict["student_run"],
        }
        super().Do(inputs, outputs, properties)


class DistillerSpec(ComponentSpec):
    """Parameters, inputs and outputs of `Distiller`."""

    PARAMETERS = {
        "run_fn": ExecutionParameter(type=str),
        "train_args": ExecutionParameter(type=tfx.proto.TrainArgs),
        "eval_args": ExecutionParameter(type=tfx.proto.EvalArgs),
        "custom_config": ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "teacher": ChannelParameter(type=standard_artifacts.Model),
        BASE_STUDENT: ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
        "transform_graph": ChannelParameter(
            type=standard_artifacts.TransformGraph, optional=True
        ),
    }
    OUTPUTS = {
        "student": ChannelParameter(type=standard_artifacts.Model),
        "student_run": ChannelParameter(type=standard_artifacts.ModelRun),
    }


class Distiller(base_component.BaseComponent):
    """Trains a student from a teacher: TFX's `Trainer`, with a teacher.

    A component of a pipeline. The Keras model that mixes the losses is
    `keras_moe.distillation.Distiller`, or one of its subclasses; `run_fn` makes
    and fits it.

    `run_fn` takes the `FnArgs` that a
    trainer's takes: `base_model` is the directory of the teacher's SavedModel
    (`keras_moe.distillation.load_teacher` reads it), `serving_model_dir` where
    the student goes, and `custom_config["base_student"]`, if there is one, the
    directory of the student to go on from. Where these are in a remote store,
    `keras_moe.components.read_locally` and `written_locally` bring files here
    and there.

    Inputs:
        examples: `Examples`, transformed if there is a `transform_graph`.
        teacher: `Model`.
        base_student: `Model`, optional: the student to go on from.
        transform_graph: `TransformGraph`, optional.

    Outputs:
        student: `Model`.
        student_run: `ModelRun`, logs of the training.

    Args:
        examples: the channel of that input.
        teacher: the channel of that input.
        run_fn: import path of the function, `"package.module.function"`.
        train_splits: what to train on.
        eval_splits: what to watch.
        base_student: the channel of that input.
        transform_graph: the channel of that input.
        custom_config: what else `run_fn` is to know, as plain values. TFX does
            not see edits of code behind an import path: a fingerprint of the
            code belongs here.

    Example:
    ```python
    distiller = keras_moe.components.Distiller(
        examples=transform.outputs["transformed_examples"],
        teacher=trainer.outputs["model"],
        transform_graph=transform.outputs["transform_graph"],
        run_fn="my_project.student.run_fn",
        eval_splits=["validation"],
    )
    ```
    """

    SPEC_CLASS = DistillerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DistillerExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        teacher: types.BaseChannel,
        run_fn: str,
        train_splits: tuple[str, ...] | list[str] = ("train",),
        eval_splits: tuple[str, ...] | list[str] = ("eval",),
        base_student: types.BaseChannel | None = None,
        transform_graph: types.BaseChannel | None = None,
        custom_config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            DistillerSpec(
                examples=examples,
                teacher=teacher,
                base_student=base_student,
                transform_graph=transform_graph,
                run_fn=run_fn,
                train_args=tfx.proto.TrainArgs(splits=list(train_splits)),
                eval_args=tfx.proto.EvalArgs(splits=list(eval_splits)),
                custom_config=json_utils.dumps(dict(custom_config or {})),
                student=types.Channel(type=standard_artifacts.Model),
                student_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )
