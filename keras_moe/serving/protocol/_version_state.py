"""Where a version of a model stands, and the message that says it."""

from collections.abc import Mapping
from typing import NamedTuple

from tensorflow_serving.apis import get_model_status_pb2

from keras_moe.serving.protocol import _status_codes as status_codes


class VersionState(NamedTuple):
    """Where a version stands, in the words of the ModelService API.

    Attributes:
        state: `"LOADING"`, `"AVAILABLE"`, `"UNLOADING"` or `"END"`.
        error_code: `"OK"`, or why the version is not served.
        error_message: details of the error.
    """

    state: str
    error_code: str = "OK"
    error_message: str = ""


def to_response(
    states: Mapping[int, VersionState],
) -> get_model_status_pb2.GetModelStatusResponse:
    """Writes the states of versions as the answer to `GetModelStatus`."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state in states.items():
        entry = response.model_version_status.add(version=version)
        entry.state = entry.State.Value(state.state)
        # The field's enum is TensorFlow's; its numbers are gRPC's.
        entry.status.error_code = status_codes.code_number(state.error_code)
        entry.status.error_message = state.error_message
    return response


def from_response(
    response: get_model_status_pb2.GetModelStatusResponse,
) -> dict[int, VersionState]:
    """Reads the states of versions from the answer to `GetModelStatus`."""
    return {
        entry.version: VersionState(
            entry.State.Name(entry.state),
            status_codes.code_name(entry.status.error_code),
            entry.status.error_message,
        )
        for entry in response.model_version_status
    }
