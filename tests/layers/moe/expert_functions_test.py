import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.keras_internals import stored_kernel
from keras_moe.layers.moe._expert_functions import expert_functions

EXPERTS, DIM, UNITS = 3, 8, 16


@pytest.fixture(autouse=True, scope="module")
def quick_quantization():
    gc.collect()
    gc.freeze()


def make(state="float", use_bias=True, dtype=None, config=None):
    bank = keras.layers.EinsumDense(
        "gecd,edf->gecf",
        output_shape=(EXPERTS, None, UNITS),
        bias_axes="ef" if use_bias else None,
        bias_initializer="normal",
        dtype=dtype,
        name="wi",
    )
    bank.build((None, EXPERTS, None, DIM))
    for change in state.split(", "):
        if change == "int8":
            bank.quantize("int8", config=config)
        if change == "lora":
            bank.enable_lora(2, lora_alpha=3)
            factor = bank.lora_kernel_b
            factor.assign(np.random.normal(size=factor.shape))
    return bank


def each(bank, x):
    """All experts, one by one: `[g, e, c, d]` to `[g, e, c, f]`."""
    groups, _, slots, _ = x.shape
    outputs = [
        ops.reshape(
            apply(ops.reshape(x[:, e], (-1, DIM))), (groups, slots, UNITS)
        )
        for e, apply in enumerate(expert_functions(bank))
    ]
    return ops.stack(outputs, axis=1)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    "state", ["float", "int8", "lora", "int8, lora", "lora, int8"]
)
def test_one_by_one_is_all_at_once(state, use_bias):
    bank = make(state, use_bias)
    x = tf.constant(np.random.normal(size=(2, EXPERTS, 5, DIM)), tf.float32)
    sources = [x, *(w.value for w in bank.trainable_weights)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        expected, received = bank(x), each(bank, x)
        losses = [tf.reduce_sum(y**2) for y in (expected, received)]
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6)
    for left, right in zip(
        *(tape.gradient(loss, sources) for loss in losses), strict=True
    ):
        assert left is not None
        np.testing.assert_allclose(
            right, left, rtol=1e-5, atol=1e-5 * np.abs(left).max()
        )


@pytest.mark.parametrize(
    ("state", "dtype"),
    [
        ("float", "bfloat16"),
        ("float", "mixed_bfloat16"),
        ("int8", "bfloat16"),
        ("int8", "mixed_bfloat16"),
        # With LoRA, mixed precision asks for the autocasting of a layer's
        # call: see `expert_bank_test`.
        ("lora", "bfloat16"),
        ("int8, lora", "bfloat16"),
    ],
)
def test_low_precision(state, dtype):
    bank = make(state, dtype=dtype)
    x = ops.cast(np.random.normal(size=(1, EXPERTS, 4, DIM)), "bfloat16")
    received, expected = each(bank, x), bank(x)
    assert received.dtype == expected.dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(received, "float32"), tf.cast(expected, "float32"), rtol=2**-7
    )


def test_weights_alone_in_int8():
    config = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    bank = make("int8", config=config)
    assert bank.inputs_quantizer is None
    x = np.random.normal(size=(1, EXPERTS, 4, DIM)).astype("float32")
    scale = np.asarray(bank.kernel_scale)[0]
    expected = np.einsum(
        "gecd,edf->gecf", x, stored_kernel(bank).numpy() / scale
    )
    np.testing.assert_allclose(each(bank, x), expected + bank.bias, atol=1e-5)


@pytest.mark.parametrize("state", ["float", "int8", "lora, int8"])
def test_an_expert_may_have_no_rows(state):
    rows = ops.zeros((0, DIM))
    assert expert_functions(make(state))[1](rows).shape == (0, UNITS)


def test_other_quantizations_are_refused():
    bank = make()
    bank.quantize("int4")
    with pytest.raises(ValueError, match="int8.*'int4'"):
        expert_functions(bank)
