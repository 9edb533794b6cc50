"""The head of a decoding loop, whose table is turned once."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.models import SwitchTransformer

STEPS = 16


def make(**changes):
    return SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
        **changes,
    )


@pytest.fixture(scope="module")
def model():
    return make()


def state_of(model, steps=STEPS):
    return model.start_from(
        *model.encode(tf.constant([[5, 6, 7], [8, 0, 0]])), steps
    )


def test_step_gives_the_logits_of_the_table(model):
    state = state_of(model)
    plain = state._replace(head_kernels=())
    assert state.head_kernels[0].shape == (
        model.config.model_dim,
        model.config.output_size,
    )
    for position, ids in enumerate([[0, 0], [5, 9]]):
        ours, state = model.step(tf.constant(ids), position, state)
        wanted, plain = model.step(tf.constant(ids), position, plain)
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def test_table_is_the_present_one(model):
    before = state_of(model).head_kernels[0].numpy()
    table = model.target_embedding.embeddings
    table.assign_add(tf.ones_like(table))
    after = state_of(model).head_kernels[0].numpy()
    np.testing.assert_allclose(after, before + 1.0, rtol=1e-6)


def test_few_steps_do_without(model):
    assert state_of(model, STEPS - 1).head_kernels == ()


def test_xla_does_without(model):
    found = []

    @tf.function(jit_compile=True, autograph=False)
    def start():
        found.append(state_of(model).head_kernels)
        return 0

    start()
    assert found == [()]


def test_head_of_its_own_needs_none():
    model = make(tie_embeddings=False)
    assert state_of(model).head_kernels == ()


def test_quantised_table_is_left_alone():
    model = make()
    model.quantize("int8")
    assert state_of(model).head_kernels == ()


def test_mixed_precision_turns_what_the_layer_multiplies_by():
    model = make(dtype="mixed_bfloat16")
    state = state_of(model)
    assert state.head_kernels[0].dtype == tf.bfloat16
    logits, _ = model.step(tf.constant([0, 0]), 0, state)
    assert logits.dtype == tf.float32
