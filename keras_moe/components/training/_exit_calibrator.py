"""Certifies a student's exits, as a component."""

import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import cast

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec

from keras_moe.calibration import calibrate_exits
from keras_moe.calibration._exits import ExitLoss
from keras_moe.components import _artifacts as artifacts
from keras_moe.components.training._calibrator import EXAMPLES
from keras_moe.components.training._calibrator import OUTPUTS
from keras_moe.components.training._calibrator import PARAMETERS
from keras_moe.components.training._calibrator import Calibration
from keras_moe.components.training._calibrator import CalibratorExecutor
from keras_moe.components.training._calibrator import Certified
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitingGenerative


class ExitCalibratorExecutor(CalibratorExecutor):
    """Certifies how early a student's tokens may leave."""

    MODELS = ("student",)

    def certify(self, calibration: Calibration) -> Certified:
        """Decodes with each threshold, and compares with the full student."""
        settings = dict(calibration.settings)
        policy = EarlyExitPolicy(**settings.pop("policy"))
        (student,) = calibration.models
        task = calibration.task("calibration")
        certificate = calibrate_exits(
            cast(ExitingGenerative, student),
            task.inputs,
            policy,
            loss=cast(ExitLoss, task.loss),
            verbose=0,
            **settings,
        )
        return Certified(policy, certificate, task)


class ExitCalibratorSpec(ComponentSpec):
    """Parameters, inputs and outputs of `ExitCalibrator`."""

    PARAMETERS = PARAMETERS
    INPUTS = {
        "student": ChannelParameter(type=standard_artifacts.Model),
        **EXAMPLES,
    }
    OUTPUTS = OUTPUTS


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
        task_fn: import path of a function from `CalibrationTaskArgs` to
            `CalibrationTask`: how to read the examples, what an early answer
            costs, and how to export.
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
                splits=json.dumps({"calibration": list(splits)}),
                calibration=json.dumps(calibration, sort_keys=True),
                custom_config=json.dumps(
                    dict(custom_config or {}), sort_keys=True
                ),
                model=types.Channel(type=standard_artifacts.Model),
                certificate=types.Channel(type=artifacts.Certificate),
            )
        )
