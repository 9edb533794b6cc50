"""TFX's InfraValidator, for machines without a container engine."""

import os
import time
from typing import Any

import tensorflow as tf
from tfx import types
from tfx import v1 as tfx
from tfx.components.infra_validator import executor as validator_executor
from tfx.dsl.components.base import executor_spec
from tfx.utils import path_utils

from keras_moe.components.embedded_server_runner import EmbeddedServerRunner
from keras_moe.components.pusher import REASON

_POLLING_SECONDS = 0.2
_LOG_LINES = 3


class InfraValidatorExecutor(validator_executor.Executor):
    """TFX's executor, with another model server under it.

    Requests, client, blessing and warm-up are TFX's own.
    """

    _reason = ""

    def _Do(self, model: Any, examples: Any, blessing: Any, **kwargs: Any):  # noqa: N802
        """Validates, and keeps the reason where the model is not blessed."""
        self._reason = ""
        super()._Do(model=model, examples=examples, blessing=blessing, **kwargs)
        if self._reason and not blessing.get_int_custom_property("blessed"):
            blessing.set_string_custom_property(REASON, self._reason)

    def _ValidateOnce(  # noqa: N802
        self,
        model_path: str,
        serving_binary: Any,
        serving_spec: Any,
        validation_spec: Any,
        requests: list[Any],
    ) -> None:
        """Loads the model and sends it real requests."""
        deadline = time.time() + validation_spec.max_loading_time_seconds
        runner = EmbeddedServerRunner(model_path, serving_spec.model_name)
        try:
            runner.Start()
            runner.WaitUntilRunning(deadline)
            client = serving_binary.MakeClient(runner.GetEndpoint())
            client.WaitUntilModelLoaded(
                deadline, polling_interval_sec=_POLLING_SECONDS
            )
            client.SendRequests(requests)
        except Exception as error:
            said = runner.GetLogs().strip().splitlines()[-_LOG_LINES:]
            self._reason = " ".join(
                f"{type(error).__name__}: {error} {' '.join(said)}".split()
            )
            raise
        finally:
            runner.Stop()

    def _CreateWarmupModel(  # noqa: N802
        self,
        blessing: types.Artifact,
        model_path: str,
        warmup_requests: list[Any],
    ) -> None:
        """Adds the requests to the warm-up that the model has already."""
        existing = path_utils.warmup_file_path(model_path)
        records = []
        if os.path.exists(existing):
            records = list(tf.data.TFRecordDataset(existing))
        super()._CreateWarmupModel(blessing, model_path, warmup_requests)
        path = path_utils.warmup_file_path(
            path_utils.stamped_model_path(blessing.uri)
        )
        records += list(tf.data.TFRecordDataset(path))
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record.numpy())


class InfraValidator(tfx.components.InfraValidator):
    """Loads a model in the embedded server and sends it real requests.

    TFX's component, but that the model server is `keras_moe.serving.Server` in
    a process of its own instead of a container. Where there is a container
    engine, take TFX's.

    Inputs:
        model: `Model`.
        examples: `Examples`, of which requests are made.

    Outputs:
        blessing: `InfraBlessing`. With it goes the model, with the requests in
            its warm-up file: `Pusher` pushes it if it is given
            `infra_blessing` and no `model`. Where the model is not blessed, the
            custom property `reason` says why.

    Args:
        model: the channel of that input.
        examples: the channel of that input.
        model_name: what requests name.
        split: of the examples.
        num_examples: how many requests.
        signature_name: a signature of one string input that takes serialized
            examples.
        max_loading_seconds: how long loading may take.

    Example:
    ```python
    infra_validator = keras_moe.components.InfraValidator(
        model=exit_calibrator.outputs["model"],
        examples=example_gen.outputs["examples"],
        model_name="g2p",
        split="test",
    )
    ```
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(InfraValidatorExecutor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        model_name: str,
        split: str = "eval",
        num_examples: int = 5,
        signature_name: str = "examples",
        max_loading_seconds: int = 120,
    ) -> None:
        proto = tfx.proto
        super().__init__(
            model=model,
            examples=examples,
            serving_spec=proto.ServingSpec(
                # What the component wants to be told; the runner is another.
                tensorflow_serving=proto.TensorFlowServing(tags=["embedded"]),
                local_docker=proto.LocalDockerConfig(),
                model_name=model_name,
            ),
            validation_spec=proto.ValidationSpec(
                max_loading_time_seconds=max_loading_seconds, num_tries=1
            ),
            request_spec=proto.RequestSpec(
                tensorflow_serving=proto.TensorFlowServingRequestSpec(
                    signature_names=[signature_name]
                ),
                split_name=split,
                num_examples=num_examples,
                make_warmup=True,
            ),
        )
