"""Numbers are cast where asked, and never lost."""

import keras
import ml_dtypes
import numpy as np
import pytest

from keras_moe.weights import transfer
from tests.weights.transfer_case import arrays
from tests.weights.transfer_case import bits
from tests.weights.transfer_case import make
from tests.weights.transfer_case import randomize


def test_floats_are_rounded_when_asked():
    source, target = randomize(make()), make(dtype="bfloat16")
    before = bits(target)
    with pytest.raises(ValueError, match="bfloat16 .*float32.*`cast=True`"):
        transfer(source, target)
    assert bits(target) == before
    transfer(source, target, cast=True)
    for old, new in zip(source.weights, target.weights, strict=True):
        assert new.dtype == "bfloat16"
        np.testing.assert_array_equal(
            np.asarray(new), np.asarray(old).astype(ml_dtypes.bfloat16)
        )
    # Back, without a loss.
    wide = make()
    transfer(target, wide, cast=True)
    assert bits(target) == bits_as(wide, ml_dtypes.bfloat16)


def bits_as(model, dtype):
    return {
        name: (np.dtype(dtype).name, value.astype(dtype).tobytes())
        for name, value in arrays(model).items()
    }


def test_no_number_becomes_infinite():
    source, target = randomize(make()), randomize(make(dtype="float16"))
    source.layers[-1].bias.assign([1.0, 1e5])
    before = bits(target)
    with pytest.raises(ValueError, match="dense#2/bias.*float16.*100000.0"):
        transfer(source, target, cast=True)
    assert bits(target) == before
    source.layers[-1].bias.assign([1.0, np.inf])  # as it was
    transfer(source, target, cast=True)
    assert np.isinf(target.layers[-1].bias[1])


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        (np.int64([3, -4]), "int32", True),
        (np.int32([3, 4]), "uint32", True),
        (np.int32([3, -4]), "uint32", False),
        (np.int64([3, 2**40]), "int32", False),
        (np.int8([3, 4]), "float32", False),
        (np.float32([3, 4]), "int32", False),
        (np.bool_([True, False]), "int32", False),
        (np.bool_([True, False]), "bool", True),
        (np.array(["a", "b"]), "float32", False),
        (np.complex64([3, 4]), "float32", False),
    ],
)
@pytest.mark.parametrize("cast", [False, True])
def test_other_numbers_must_be_the_same(given, wanted, fits, cast):
    start = np.zeros(2, wanted)
    target = {"a": keras.Variable(start, dtype=wanted, trainable=False)}
    if fits:
        transfer({"a": given}, target, cast=cast)
        assert np.asarray(target["a"]).tolist() == given.tolist()
    else:
        with pytest.raises(
            ValueError, match=r"a \(2,\) \w+ \(is \(2,\) <?\w+\)"
        ):
            transfer({"a": given}, target, cast=cast)
        np.testing.assert_array_equal(target["a"], start)
