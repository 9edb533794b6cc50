"""`generate` within other functions, and gradients through decoding."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import generation
from keras_moe.models import SwitchTransformer

IDS = np.array([[5, 6, 7, 1], [8, 9, 1, 0], [4, 1, 0, 0]], "int32")


@pytest.fixture(scope="module")
def model():
    return SwitchTransformer.from_preset("switch_tiny", num_experts=4)


@pytest.mark.parametrize("rows", [1, 3])
def test_of_a_batch_of_unknown_size(model, rows):
    spec = tf.TensorSpec((None, None), tf.int32)

    @tf.function(input_signature=[spec], autograph=False)
    def answer(ids):
        return model.generate(ids, 5)["token_ids"]

    expected = model.generate(IDS[:rows], 5)["token_ids"]
    np.testing.assert_array_equal(answer(IDS[:rows]), expected)


def test_in_a_data_set(model):
    data = tf.data.Dataset.from_tensor_slices(IDS).batch(1)
    answers = data.map(lambda ids: model.generate(ids, 5)["token_ids"])
    found = np.concatenate(list(answers.as_numpy_iterator()))
    np.testing.assert_array_equal(found, model.generate(IDS, 5)["token_ids"])


@pytest.mark.parametrize("xla_first", [False, True])
def test_xla_has_a_program_of_its_own(xla_first):
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=0)

    def answer(ids):
        return model.generate(ids, 3)["token_ids"]

    compiled = tf.function(answer, jit_compile=True, autograph=False)
    ids = tf.constant(IDS)
    found = [f(ids) for f in ((compiled, answer)[:: 1 if xla_first else -1])]
    np.testing.assert_array_equal(*found)


def gradients(model, length, strategy, static_shapes):
    """Returns the answers' log probability, and its gradient by weight."""
    decode = tf.function(
        lambda: generation.decode(
            model,
            tf.constant(IDS[:2]),
            length,
            strategy,
            static_shapes=static_shapes,
        )["log_probability"],
        autograph=False,
    )
    with tf.GradientTape() as tape:
        score = tf.reduce_sum(decode())
    weights = {w.path: w.value for w in model.trainable_weights}
    found = tape.gradient(score, weights)
    return score, {
        name: tf.convert_to_tensor(gradient)
        for name, gradient in found.items()
        if gradient is not None
    }


# Above 128 positions a cache is read in part. What drafts and checks says what
# `Greedy` does, with the same probability.
@pytest.mark.parametrize(
    ("strategy", "reference", "length"),
    [
        (None, None, 6),
        (None, None, 131),
        pytest.param(
            generation.BeamSearch(2),
            generation.BeamSearch(2),
            6,
            marks=pytest.mark.large,
        ),
        pytest.param(
            generation.SelfSpeculative(1, 2), None, 6, marks=pytest.mark.large
        ),
    ],
)
def test_gradients_are_those_of_static_shapes(
    model, strategy, reference, length
):
    score, found = gradients(model, length, strategy, False)
    same, expected = gradients(model, length, reference, True)
    np.testing.assert_allclose(score, same, rtol=1e-5)
    assert found.keys() == expected.keys() and len(found) > 20
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            found[name], gradient, rtol=1e-3, atol=1e-4, err_msg=name
        )
