"""Products of few rows, cut into halves that run side by side."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe.backend import _halves
from keras_moe.backend import is_halved
from keras_moe.backend import product_in_halves
from keras_moe.backend import rows_in_halves
from keras_moe.layers import FeedForward
from keras_moe.layers import SparseMoE
from keras_moe.layers import T5Attention
from keras_moe.layers.attention import _attend_heads
from keras_moe.models import SwitchTransformer


@pytest.fixture
def threads(monkeypatch):
    """Says how many threads TensorFlow has for one operation, and for all."""

    def set_threads(intra, inter):
        threading = tf.config.threading
        for kind, number in (("intra", intra), ("inter", inter)):
            name = f"get_{kind}_op_parallelism_threads"
            monkeypatch.setattr(threading, name, lambda number=number: number)

    return set_threads


@pytest.fixture
def side_by_side(threads, monkeypatch):
    """Halves all products, however small."""
    monkeypatch.setattr(_halves, "_FEW_ENTRIES", 1)
    threads(1, 2)


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


LARGE = tf.zeros((512, 512))


@pytest.mark.parametrize(
    ("intra", "inter", "halved"),
    [(1, 2, True), (1, 0, True), (1, -1, True), (1, 1, False)]
    + [(0, 0, False), (2, 2, False)],
)
def test_threads_decide(threads, intra, inter, halved):
    threads(intra, inter)
    assert is_halved(LARGE) is halved


def test_what_is_left_whole(threads):
    threads(1, 2)
    assert not is_halved(tf.zeros((511, 1024)))  # an odd number of inputs
    assert not is_halved(tf.zeros((510, 512)))  # too small to gain by it
    compiled = []

    @tf.function(jit_compile=True, autograph=False)
    def run():
        compiled.append(is_halved(LARGE))
        return 0

    run()
    assert compiled == [False]


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_product(rows):
    x, kernel = data(rows, 6), data(6, 5, seed=1)
    found = product_in_halves(tf.constant(x), tf.constant(kernel))
    np.testing.assert_allclose(found, x @ kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_rows(rows):
    calls = []

    def add(x, y, z):
        calls.append(x.shape[0])
        return x + y if z is None else x + y + z

    x, one = data(rows, 3), data(1, 3, seed=1)
    found = rows_in_halves(add, *map(tf.constant, (x, one)), None)
    np.testing.assert_array_equal(found, x + one)
    assert sum(calls) == rows and max(calls) - min(calls) <= 1


def test_rows_of_unknown_number():
    spec = tf.TensorSpec((None, 3))

    @tf.function(input_signature=[spec, spec], autograph=False)
    def add(x, y):
        return rows_in_halves(lambda x, y: x + y, x, y)

    x = data(5, 3)
    for y in (x, x[:1], x[:0]):
        z = x if len(y) else x[:1]
        np.testing.assert_array_equal(add(z, y), z + y)
        np.testing.assert_array_equal(add(y, z), z + y)


# Of one row, of each row, and of none; for all rows, and for each.
@pytest.mark.parametrize("mask", [None, (1, 1, 7), (5, 1, 7), (1, 7)])
@pytest.mark.parametrize("bias", [None, (2, 1, 7), (5, 2, 1, 7)])
@pytest.mark.parametrize("rows", [1, 5])
def test_attention_of_a_step(threads, monkeypatch, mask, bias, rows):
    halved = []

    def spy(*arguments):
        halved.append(1)
        return rows_in_halves(*arguments)

    monkeypatch.setattr(_attend_heads, "rows_in_halves", spy)
    layer = T5Attention(2, 4)
    query, value = data(rows, 1, 6), data(rows, 7, 6)
    named = {}
    if bias is not None:
        named["bias"] = data(*bias)
    if mask is not None:
        named["attention_mask"] = data(*mask) > -0.5
    # A batch whose size is unknown until the graph runs.
    call = tf.function(
        lambda query: layer(query, value, **named), autograph=False
    )
    layer(query, value)
    spec = tf.TensorSpec((None, 1, 6))
    whole = call.get_concrete_function(spec)(tf.constant(query))
    assert not halved
    threads(1, 2)
    call = tf.function(
        lambda query: layer(query, value, **named), autograph=False
    )
    found = call.get_concrete_function(spec)(tf.constant(query))
    assert bool(halved) == ((bias is None or len(bias) == 3) and mask != (1, 7))
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


def test_a_step_attends_in_halves(side_by_side, threads):
    layer, value = T5Attention(2, 4), data(3, 5, 6)
    mask = np.arange(5) < [[5], [2], [0]]
    layer(value, value)

    def steps():
        memory = layer.encode_memory(value, mask)
        state = layer.init_state(3, max_length=4)
        outputs = []
        for seed in range(4):
            query = data(3, 1, 6, seed=seed)
            said, state = layer.step(query, state)
            outputs += [said, layer.attend_to_memory(query, memory)]
        return tf.stack(outputs)

    halved = steps()
    threads(2, 2)
    np.testing.assert_allclose(halved, steps(), rtol=1e-5, atol=1e-6)


def make_feed_forward(**changes):
    layer = FeedForward(hidden_dim=6, **changes)
    layer.build((None, None, 4))
    return layer


@pytest.mark.parametrize(
    "changes",
    [{"activation": "relu"}, {"gated": True, "activation": "gelu"}]
    + [{"use_bias": True}, {"dtype": "mixed_bfloat16"}],
)
@pytest.mark.parametrize("length", [1, 3])
def test_feed_forward(threads, monkeypatch, changes, length):
    layer, x = make_feed_forward(**changes), data(2, length, 4)
    whole = layer(x)
    monkeypatch.setattr(_halves, "_FEW_ENTRIES", 1)
    threads(1, 2)
    halved = layer(x)
    assert halved.dtype == whole.dtype
    atol = 0.05 if "dtype" in changes else 1e-6
    np.testing.assert_allclose(
        tf.cast(halved, tf.float32), tf.cast(whole, tf.float32), atol=atol
    )


@pytest.mark.parametrize("kind", ["int8", "lora"])
def test_changed_kernels(side_by_side, threads, kind):
    layer, x = make_feed_forward(), data(2, 1, 4)
    if kind == "int8":
        layer.inner.quantize("int8")
    else:
        layer.inner.enable_lora(2)
        layer.inner.lora_kernel_b.assign(data(2, 6, seed=3))
    halved = layer(x)
    threads(2, 2)
    np.testing.assert_allclose(halved, layer(x), rtol=1e-5, atol=1e-6)


def test_gradients(side_by_side, threads):
    layer, x = make_feed_forward(), tf.constant(data(2, 1, 4))

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, layer.inner.kernel.value])

    halved = gradients()
    threads(2, 2)
    for found, expected in zip(halved, gradients(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_model_answers_alike(side_by_side, threads, tie_embeddings):
    model = SwitchTransformer.from_preset(
        "switch_tiny", num_experts=4, tie_embeddings=tie_embeddings
    )
    sources = np.array([[5, 6, 7, 1], [8, 9, 1, 0]])
    halved = model.generate(sources, 18)
    threads(2, 2)
    whole = SwitchTransformer.from_config(model.get_config())
    whole.set_weights(model.get_weights())
    expected = whole.generate(sources, 18)
    np.testing.assert_array_equal(halved["token_ids"], expected["token_ids"])
    np.testing.assert_allclose(
        halved["log_probability"], expected["log_probability"], rtol=1e-4
    )


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_sparse_step(side_by_side, threads, rows):
    layer = SparseMoE(4, 6)
    x = data(rows, 1, 4)
    layer(x)
    halved = layer(x)
    threads(2, 2)
    np.testing.assert_allclose(halved, layer(x), rtol=1e-5, atol=1e-6)
