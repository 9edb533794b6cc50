"""A teacher out of the batch."""

import keras
import numpy as np
import pytest

from keras_moe.distillation import CachedTeacher
from keras_moe.ops import compress_logits
from keras_moe.ops import expand_logits
from tests.reference.distillation import log_softmax


def batch(k, vocabulary=7):
    logits = np.random.normal(size=(2, 3, vocabulary)).astype("float32")
    ids, values = compress_logits(logits, k)
    inputs = {
        "encoder_token_ids": np.ones((2, 5), "int32"),
        "teacher_token_ids": ids,
        "teacher_log_probabilities": values,
    }
    return logits, inputs


@pytest.mark.parametrize("tail", ["uniform", "drop"])
def test_gives_all_logits_back(tail):
    logits, inputs = batch(k=7)
    teacher = CachedTeacher(7, tail)
    expected = np.apply_along_axis(log_softmax, -1, logits)
    np.testing.assert_allclose(teacher(inputs), expected, rtol=1e-5, atol=1e-5)
    assert teacher.built
    assert teacher.weights == []


@pytest.mark.parametrize("tail", ["uniform", "drop"])
def test_guesses_the_tail(tail):
    _, inputs = batch(k=2)
    received = CachedTeacher(7, tail)(inputs, training=True)
    assert received.dtype == "float32"
    ids, values = list(inputs.values())[1:]
    np.testing.assert_array_equal(received, expand_logits(ids, values, 7, tail))


def test_log_probabilities_are_not_rounded_to_the_policy():
    _, inputs = batch(k=2)
    expected = CachedTeacher(7)(inputs)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        received = CachedTeacher(7)(inputs)
    finally:
        keras.config.set_dtype_policy("float32")
    assert received.dtype == "float32"
    np.testing.assert_array_equal(received, expected)


def test_predicts():
    _, inputs = batch(k=2)
    teacher = CachedTeacher(7)
    inputs = {name: np.asarray(values) for name, values in inputs.items()}
    np.testing.assert_allclose(
        teacher.predict(inputs, verbose=0), teacher(inputs), rtol=1e-6
    )


def test_survives_a_file(tmp_path):
    _, inputs = batch(k=2)
    teacher = CachedTeacher(7, tail="drop", name="said")
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.saving.load_model(tmp_path / "teacher.keras")
    assert isinstance(loaded, CachedTeacher)
    assert loaded.get_config() == teacher.get_config()
    np.testing.assert_array_equal(loaded(inputs), teacher(inputs))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`vocabulary_size` must be a posit"):
        CachedTeacher(0)
    with pytest.raises(ValueError, match="`tail` must be one of.*'none'"):
        CachedTeacher(7, tail="none")


def test_the_inputs_must_hold_what_was_kept():
    _, inputs = batch(k=2)
    teacher = CachedTeacher(7)
    del inputs["teacher_log_probabilities"]
    with pytest.raises(ValueError, match="must hold.*teacher_log_prob.*Recei"):
        teacher(inputs)
    with pytest.raises(ValueError, match="must hold.*teacher_log_prob.*Recei"):
        teacher(inputs["teacher_token_ids"])
    _, inputs = batch(k=6)
    with pytest.raises(ValueError, match="6 of vocabulary_size=5"):
        CachedTeacher(5)(inputs)
