"""T5 attention: masks, biases, rotary positions."""

import keras
import numpy as np
import pytest

from keras_moe import layers
from tests.layers.layer_test_case import run_layer_test
from tests.reference import t5

DIM = 8


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def attention():
    return layers.T5Attention(2, 4, name="attention")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_equals_the_loop(masked, biased):
    layer = layers.T5Attention(num_heads=3, key_dim=4)
    query, value = data(2, 5), data(2, 7)
    layer.build(query.shape, value.shape)
    bias = np.random.normal(size=(3, 5, 7)).astype("f") if biased else None
    mask = None
    if masked:
        mask = np.random.random((2, 1, 5, 7)) < 0.6
        mask[..., 0] = True
    received = layer(query, value, bias=bias, attention_mask=mask)
    for row in range(2):
        expected = t5.attention(
            query[row],
            value[row],
            *(
                getattr(layer, name).kernel.numpy()
                for name in ("query", "key", "value", "output_projection")
            ),
            heads=3,
            bias=bias,
            mask=None if mask is None else mask[row, 0],
        )
        np.testing.assert_allclose(received[row], expected, atol=1e-5)


def test_attention_starts_with_scores_of_order_one():
    layer = layers.T5Attention(num_heads=8, key_dim=32)
    x = np.random.normal(size=(1, 40, 256)).astype("float32")
    layer.build(x.shape, x.shape)
    scores = np.einsum(
        "bhqd,bhkd->bhqk", layer.query_heads(x), layer.key_value_heads(x)[0]
    )
    assert scores.std() == pytest.approx(1.0, rel=0.1)


def test_attention_sees_the_masks_of_keras():
    embedding = keras.layers.Embedding(9, DIM, mask_zero=True)
    layer = layers.T5Attention(2, 4)
    ids = np.array([[3, 4, 0, 0], [5, 6, 7, 8]])
    x = embedding(ids)
    received = layer(x, x)
    short = embedding(ids[:1, :2])
    np.testing.assert_allclose(
        received[0, :2], layer(short, short)[0], atol=1e-5
    )
    causal = np.tril(np.ones((1, 1, 4, 4), bool))
    np.testing.assert_allclose(
        layer(x, x, attention_mask=causal),
        layer(
            np.asarray(x),
            np.asarray(x),
            attention_mask=causal & (ids != 0)[:, None, None, :],
        ),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "kind", [layers.T5Attention, layers.ScaleInvariantAttention]
)
@pytest.mark.parametrize("batch", [2, 3])
def test_a_mask_of_three_axes_is_one_for_all_heads(kind, batch):
    """As for `keras.layers.MultiHeadAttention`; 2 is the number of heads."""
    layer, x = kind(2, 4), data(batch, 5)
    mask = np.random.random((batch, 5, 5)) < 0.6
    mask[..., 0] = True
    received = layer(x, x, attention_mask=mask)
    for row in range(batch):
        alone = layer(
            x[row : row + 1],
            x[row : row + 1],
            attention_mask=mask[None, None, row],
        )
        np.testing.assert_allclose(received[row], alone[0], atol=1e-5)
    inputs = keras.Input((5, DIM)), keras.Input((5, 5), dtype="bool")
    outputs = layer(inputs[0], inputs[0], attention_mask=inputs[1])
    assert outputs.shape == (None, 5, DIM)


def test_attention_contract():
    run_layer_test(
        layers.T5Attention,
        {"num_heads": 2, "key_dim": 4, "dropout_rate": 0.1},
        input_shape={"query_shape": (2, 3, 8), "value_shape": (2, 5, 8)},
        expected_output_shape=(2, 3, 8),
        supports_masking=True,
        run_training_check=False,
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_relative_position_bias(bidirectional):
    layer = layers.RelativePositionBias(
        3, num_buckets=8, max_distance=20, bidirectional=bidirectional
    )
    queries, keys = np.arange(2, 6), np.arange(30)
    bias = np.asarray(layer(queries, keys))
    assert bias.shape == (3, 4, 30)
    table = layer.table.numpy()
    for i, q in enumerate(queries.tolist()):
        for j, k in enumerate(keys.tolist()):
            row = t5.float32_bucket(k - q, bidirectional, 8, 20)
            np.testing.assert_array_equal(bias[:, i, j], table[row])


def test_relative_position_bias_is_float32_under_every_policy():
    layer = layers.RelativePositionBias(2, dtype="mixed_float16")
    assert layer(np.arange(3), np.arange(3)).dtype == "float32"
    clone = layers.RelativePositionBias.from_config(layer.get_config())
    assert clone.get_config() == layer.get_config()


def test_rotary_attention_depends_on_distances_alone():
    layer = layers.T5Attention(2, 4, rotary=True)
    x = data(1, 6)
    outputs = np.asarray(layer(x, x))
    swapped = np.asarray(layer(x[:, ::-1], x[:, ::-1]))[:, ::-1]
    assert np.abs(outputs - swapped).max() > 1e-3
    # Of a cut from the middle, with every key in it.
    queries, keys = layer.query_heads(x, 7), layer.key_value_heads(x, 7)
    np.testing.assert_allclose(layer.attend(queries, *keys), outputs, atol=1e-5)
    state, parts = layer.init_state(1, 6), []
    for position in range(6):
        part, state = layer.step(x[:, position : position + 1], state)
        parts.append(part)
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1),
        layer(x, x, use_causal_mask=True),
        atol=1e-5,
    )
