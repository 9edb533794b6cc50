"""TFX's InfraValidator, which needs no container engine."""

import os
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.components.infra_validator import executor as validator_executor
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs
from tfx.utils import path_utils

from keras_moe.components._artifact_files import read_locally
from keras_moe.components.gates._embedded_server_runner import (
    EmbeddedServerRunner,
)
from keras_moe.components.gates._example_signature import (
    check_example_signature,
)
from keras_moe.components.pushing._pusher import REASON
from keras_moe.model_folder import SAVED_MODEL

_POLLING_SECONDS = 0.2
_LOG_LINES = 3
# TFX's specification requires tags of an image; this one stands for the
# embedded server.
_EMBEDDED = "embedded"


class InfraValidatorExecutor(validator_executor.Executor):
    """TFX's executor, which can have the embedded model server under it.

    Requests, client, blessing and warm-up are TFX's own.
    """

    _reason = ""

    def _Do(  # noqa: N802
        self,
        model: types.Artifact,
        examples: types.Artifact | None,
        blessing: types.Artifact,
        **kwargs: Any,
    ):
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
        try:
            _check_signatures(model_path, requests)
            if list(serving_spec.tensorflow_serving.tags) == [_EMBEDDED]:
                self._validate_embedded(
                    model_path,
                    serving_binary,
                    serving_spec.model_name,
                    time.time() + validation_spec.max_loading_time_seconds,
                    requests,
                )
            else:
                super()._ValidateOnce(
                    model_path,
                    serving_binary,
                    serving_spec,
                    validation_spec,
                    requests,
                )
        except Exception as error:
            said = getattr(error, "__notes__", [])
            self._reason = " ".join(
                f"{type(error).__name__}: {error} {' '.join(said)}".split()
            )
            raise

    def _validate_embedded(
        self,
        model_path: str,
        serving_binary: Any,
        model_name: str,
        deadline: float,
        requests: list[Any],
    ) -> None:
        with read_locally(model_path) as version:
            runner = EmbeddedServerRunner(str(version), model_name)
            try:
                runner.Start()
                runner.WaitUntilRunning(deadline)
                client = serving_binary.MakeClient(runner.GetEndpoint())
                client.WaitUntilModelLoaded(
                    deadline, polling_interval_sec=_POLLING_SECONDS
                )
                client.SendRequests(requests)
            except Exception as error:
                for line in runner.GetLogs().strip().splitlines()[-_LOG_LINES:]:
                    error.add_note(line)
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
        if fileio.exists(existing):
            records = list(tf.data.TFRecordDataset(existing))
        super()._CreateWarmupModel(blessing, model_path, warmup_requests)
        path = path_utils.warmup_file_path(
            path_utils.stamped_model_path(blessing.uri)
        )
        records += list(tf.data.TFRecordDataset(path))
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record.numpy())


def _check_signatures(model_path: str, requests: list[Any]) -> None:
    path = os.path.join(model_path, SAVED_MODEL)
    with fileio.open(path, "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    for name in {request.model_spec.signature_name for request in requests}:
        for meta_graph in model.meta_graphs:
            if name in meta_graph.signature_def:
                check_example_signature(meta_graph, name)


class InfraValidator(base_component.BaseComponent):
    """Loads a model in a model server and sends it real requests.

    TFX's component, with its specification and its executor, and two
    differences: the model server may be `keras_moe.serving.Server` in a process
    of its own, where TFX knows containers alone; and it compiles for Kubeflow
    and Vertex, which refuse TFX's class, since that one would start containers
    from inside a container.

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
        signature_name: a signature of one string input that parses serialized
            examples. With one that takes them for texts, such as
            `serving_default` of `keras_moe.serving.export`, no model is
            blessed.
        max_loading_seconds: how long loading may take.
        image_tags: tags of the stock image `tensorflow/serving`, such as
            `["latest"]`, each to be run in the local container engine. None of
            them: the embedded server.

    Example:
    ```python
    infra_validator = keras_moe.components.InfraValidator(
        model=exit_calibrator.outputs["model"],
        examples=example_gen.outputs["examples"],
        model_name="my_model",
        split="test",
    )
    ```
    """

    SPEC_CLASS = standard_component_specs.InfraValidatorSpec
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
        image_tags: Sequence[str] = (),
    ) -> None:
        proto = tfx.proto
        super().__init__(
            standard_component_specs.InfraValidatorSpec(
                model=model,
                examples=examples,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
                serving_spec=proto.ServingSpec(
                    tensorflow_serving=proto.TensorFlowServing(
                        tags=list(image_tags) or [_EMBEDDED]
                    ),
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
        )
