"""TFX's Pusher, made safe against what interrupts it."""

import os
from typing import Any

from google.protobuf import json_format
from tfx import types
from tfx import v1 as tfx
from tfx.components.pusher import executor as pusher_executor
from tfx.components.util import model_utils
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils

from keras_moe.components._artifact_files import read_locally
from keras_moe.components.pushing._upload_version import upload_version
from keras_moe.serving.versions._push_version import push_version
from keras_moe.serving.versions._version_folders import is_remote

REASON = "reason"


class PusherExecutor(pusher_executor.Executor):
    """Pushes whole versions, and says why where it does not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if all have blessed it.

        Raises:
            ValueError: if the destination is not a directory.
            OSError: if it cannot be copied (TensorFlow's errors, in a remote
                store); what was served is still there.
        """
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        reason = _refusal(input_dict)
        if reason:
            self._MarkNotPushed(pushed)
            pushed.set_string_custom_property(REASON, reason)
            return
        destination = json_format.Parse(
            exec_properties["push_destination"], tfx.proto.PushDestination()
        )
        if destination.WhichOneof("destination") != "filesystem":
            raise ValueError(
                "`push_destination` must be a `filesystem`. Received: "
                f"{destination}"
            )
        version = _push(
            self.GetModelPath(input_dict),
            destination.filesystem.base_directory,
            origin=artifact_utils.get_single_uri(
                input_dict.get("model") or input_dict["infra_blessing"]
            ),
        )
        self._MarkPushed(
            pushed,
            pushed_destination=version,
            pushed_version=os.path.basename(version),
        )


def _push(source: str, base_directory: str, origin: str) -> str:
    if is_remote(base_directory):
        return upload_version(source, base_directory, origin)
    with read_locally(source) as directory:
        return str(push_version(directory, base_directory, origin))


def _refusal(input_dict: dict[str, list[types.Artifact]]) -> str:
    """Returns who did not bless the model; empty if all did."""
    for key, name, is_blessed in (
        ("model_blessing", "Evaluator", model_utils.is_model_blessed),
        ("infra_blessing", "InfraValidator", model_utils.is_infra_validated),
    ):
        if input_dict.get(key):
            blessing = artifact_utils.get_single_instance(input_dict[key])
            if not is_blessed(blessing):
                why = blessing.get_string_custom_property(REASON)
                return f"the {name} did not bless the model" + (
                    f": {why}" if why else ""
                )
    return ""


class Pusher(tfx.components.Pusher):
    """Pushes a blessed model as a new version, whole or not at all.

    Parameters, inputs and outputs are those of TFX's `Pusher`. In contrast to
    it, a version appears under its name when it is complete; versions increase
    whatever the clock says; a push that was interrupted before it was recorded
    is not made twice; and where nothing is pushed, the custom property `reason`
    of `pushed_model` says why.

    A base directory such as `gs://bucket/model` is in a store that does not
    rename directories. There a version appears while it is uploaded, with its
    `saved_model.pb` last. Until then TensorFlow Serving fails to load it, goes
    on serving the one before, and by default tries again five times, a minute
    apart: where uploads take longer, raise its `--max_num_load_retries`.

    Example:
    ```python
    pusher = keras_moe.components.Pusher(
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory="serving/my_model"
            )
        ),
    )
    ```
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(PusherExecutor)
