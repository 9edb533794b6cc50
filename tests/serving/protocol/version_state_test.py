from tensorflow_serving.apis import get_model_status_pb2

from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.protocol._version_state import from_response
from keras_moe.serving.protocol._version_state import to_response

STATES = {
    3: VersionState("LOADING"),
    2: VersionState("AVAILABLE"),
    1: VersionState("END", "DATA_LOSS", "damaged"),
}


def test_there_and_back():
    data = to_response(STATES).SerializeToString()
    response = get_model_status_pb2.GetModelStatusResponse.FromString(data)
    assert from_response(response) == STATES
    assert list(from_response(response)) == [3, 2, 1]


def test_numbers_are_the_apis():
    entries = to_response(STATES).model_version_status
    assert [entry.state for entry in entries] == [20, 30, 50]
    # gRPC's number of DATA_LOSS.
    assert [entry.status.error_code for entry in entries] == [0, 0, 15]


def test_no_versions():
    assert from_response(to_response({})) == {}
