"""The weight of a chosen example, which may have had one before."""

import pytest
import tensorflow as tf

from keras_moe.components.data._choose import weighted

pytestmark = pytest.mark.tfx


def weigh_anew(feature):
    example = tf.train.Example()
    example.features.feature["example_weight"].CopyFrom(feature)
    record = weighted(example.SerializeToString(), 1.0)
    features = tf.train.Example.FromString(record).features
    return list(features.feature["example_weight"].float_list.value)


FLOATS, INTEGERS, TEXTS = (
    lambda values, kind=kind: tf.train.Feature(**{kind: {"value": values}})
    for kind in ("float_list", "int64_list", "bytes_list")
)


@pytest.mark.parametrize(
    "weight", [FLOATS([0.5]), INTEGERS([5]), INTEGERS([0])]
)
def test_weights_of_rounds_before_count(weight):
    (value,) = getattr(weight, weight.WhichOneof("kind")).value
    assert weigh_anew(weight) == [float(value)]


@pytest.mark.parametrize(
    "bad",
    [
        *map(FLOATS, [[-1.0], [float("nan")], [1.0, 1.0]]),
        *(INTEGERS([-1]), INTEGERS([1, 1]), TEXTS([b"2"])),
    ],
)
def test_weights_that_are_none(bad):
    with pytest.raises(ValueError, match="must be one number of at least 0"):
        weigh_anew(bad)
