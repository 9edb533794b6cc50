import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2

from keras_moe.serving.protocol._model_spec import ModelSpec


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("toy"),
        ModelSpec("toy", 3),
        ModelSpec("toy", 0),
        ModelSpec("toy", 2**63 - 1),
        ModelSpec("toy", label="stable"),
    ],
)
def test_there_and_back(spec):
    proto = spec.to_proto("ratio")
    assert proto.signature_name == "ratio"
    parsed = model_pb2.ModelSpec.FromString(proto.SerializeToString())
    assert ModelSpec.from_proto(parsed) == spec


def test_version_zero_is_a_version():
    proto = ModelSpec("toy", 0).to_proto()
    assert proto.WhichOneof("version_choice") == "version"


def test_an_empty_label_is_the_label_of_none():
    proto = model_pb2.ModelSpec(name="toy", version_label="")
    with pytest.raises(tf.errors.InvalidArgumentError, match="label"):
        ModelSpec.from_proto(proto)
