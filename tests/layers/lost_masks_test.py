"""Layers that heed masks say so where an operation before them lost one."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_moe
from keras_moe.layers import SparseMoE


class Doubled(keras.layers.Layer):
    """A layer that says nothing of masks."""

    def call(self, inputs):
        return 2.0 * inputs


class DropMask(keras.layers.Layer):
    """A layer that ends masks on purpose."""

    def call(self, inputs):
        return 1.0 * inputs

    def compute_mask(self, inputs, previous_mask):
        return None


class Inside(keras.layers.Layer):
    """A layer whose output has a mask when it runs, and no earlier."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.RMSNormalization()

    def call(self, inputs):
        return self.norm(inputs)


def ids(name=None):
    return keras.Input((None,), dtype="int32", name=name)


def embed(inputs, mask_zero=True):
    return keras.layers.Embedding(10, 8, mask_zero=mask_zero)(inputs)


def attend(x, y):
    return keras.layers.MultiHeadAttention(2, 4)(x, y)


def moe():
    return SparseMoE(2, 8, name="moe")


@pytest.fixture(autouse=True)
def _keep_no_registry():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer .* does not support masking")
        warnings.filterwarnings("error", ".*gets no mask")
        yield


# === A mask that was lost ===


def plus(x):
    return x + attend(x, x)


def plus_then_layers(x):
    x = keras.layers.RMSNormalization()(attend(x, x) + x)
    return keras.layers.Dense(8)(keras.layers.Dropout(0.1)(x))


def position_first(x):
    return ops.convert_to_tensor(np.ones((1, 1, 8), "float32")) + x


@pytest.mark.parametrize(
    ("lose", "culprit"),
    [
        (plus, "Add `"),
        (plus_then_layers, "Add `"),
        (position_first, "Add `"),
        (lambda x: 2.0 * x, "Multiply `"),
        (lambda x: ops.concatenate([x, x], axis=-1), "Concatenate `"),
        (lambda x: ops.matmul(x, np.ones((8, 8), "float32")), "Matmul `"),
        (lambda x: keras.layers.Lambda(lambda x: -x)(x), "Lambda `"),
        (lambda x: Doubled(name="doubled")(x), "Doubled `doubled`"),
    ],
)
def test_the_operation_that_lost_a_mask_is_named(lose, culprit):
    x = lose(embed(ids()))
    with pytest.warns(
        UserWarning, match="SparseMoE `moe` gets no mask"
    ) as said:
        moe()(x)
    assert culprit in str(said[0].message)


def test_what_is_said_is_so():
    """Of 24 tokens 5 are real; with `+` all are routed."""
    tokens = np.zeros((4, 6), "int32")
    tokens[0, :5] = 1
    routed = []
    for add in (lambda x, y: x + y, lambda x, y: keras.layers.Add()([x, y])):
        inputs = ids()
        x = embed(inputs)
        layer = moe()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            outputs = layer(add(x, attend(x, x)))
        routed.append(
            len([w for w in said if "gets no mask" in str(w.message)])
        )
        keras.Model(inputs, outputs)(tokens)
        counts = ops.convert_to_numpy(layer.router.expert_load.counts)
        routed.append(int(counts.sum()))
    assert routed == [1, 24, 0, 5]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: keras_moe.layers.T5Attention(2, 4)(x, x),
        lambda x: keras_moe.layers.RandomFeatureAttention(2, 4, 8)(x, x),
        lambda x: keras_moe.layers.EncoderBlock(
            keras_moe.layers.T5Attention(2, 4), keras_moe.layers.FeedForward(8)
        )(x),
        lambda x: keras_moe.layers.DecoderBlock(
            keras_moe.layers.T5Attention(2, 4),
            keras_moe.layers.T5Attention(2, 4),
            keras_moe.layers.FeedForward(8),
        )(embed(ids()), x),
    ],
)
def test_so_do_attention_and_blocks(call):
    with pytest.warns(UserWarning, match="gets no mask.*Multiply"):
        call(2.0 * embed(ids()))


def test_in_a_sequential_model_and_once_more_when_loaded(tmp_path):
    def build():
        return keras.Sequential(
            [
                ids(),
                keras.layers.Embedding(10, 8, mask_zero=True),
                keras.layers.Reshape((-1, 8)),
                moe(),
            ]
        )

    with pytest.warns(UserWarning, match="gets no mask.*Reshape"):
        model = build()
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="gets no mask.*Reshape"):
        keras.models.load_model(tmp_path / "model.keras")


# === No false alarms ===


@pytest.mark.parametrize(
    "call",
    [
        lambda x: moe()(x),
        lambda x: moe()(keras.layers.Add()([x, attend(x, x)])),
        lambda x: moe()(embed(ids(), mask_zero=False) * 2.0),
        lambda x: moe()(2.0 * x, mask=ops.ones_like(x[..., 0], dtype="bool")),
        lambda x: moe()(DropMask()(x)),
        lambda x: moe()(Inside()(x)),
        lambda x: moe()(keras.layers.GlobalAveragePooling1D()(x)),
        lambda x: moe()(ops.mean(x, axis=1)),
        lambda x: moe()(ops.mean(x, axis=1, keepdims=True)),
        lambda x: moe()(keras.layers.LSTM(8)(x)),
        # The queries never had a mask.
        lambda x: moe()(attend(embed(ids(), mask_zero=False), 2.0 * x)),
        lambda x: moe()(attend(embed(ids(), mask_zero=False), x)),
        lambda x: moe()(
            ops.matmul(
                ops.softmax(
                    ops.matmul(
                        embed(ids(), mask_zero=False),
                        ops.transpose(x, (0, 2, 1)),
                    )
                ),
                x,
            )
        ),
        lambda x: keras_moe.layers.T5Attention(2, 4)(
            2.0 * x, 2.0 * x, attention_mask=x[..., None, None, :, 0] > 0
        ),
        lambda x: keras_moe.layers.RandomFeatureAttention(2, 4, 8)(
            2.0 * x, 2.0 * x, segment_ids=ids()
        ),
        lambda x: keras_moe.layers.RandomFeatureAttention(2, 4, 8)(2.0 * x, x),
    ],
)
def test_no_false_alarm(call):
    call(embed(ids()))


def test_models_within_models():
    inner_inputs = keras.Input((None, 8))
    inner = keras.Model(inner_inputs, moe()(inner_inputs))
    inputs = ids()
    x = inner(embed(inputs))
    model = keras.Model(inputs, SparseMoE(2, 8)(x))
    assert model(np.array([[1, 2, 0]])).shape == (1, 3, 8)


def test_models_of_ones_own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(10, 8, mask_zero=True)
            self.moe = moe()

        def call(self, inputs):
            return self.moe(2.0 * self.embedding(inputs))

    assert Own()(np.array([[1, 2, 0]])).shape == (1, 3, 8)


def test_under_mixed_precision():
    x = embed(ids())
    SparseMoE(2, 8, dtype="mixed_bfloat16")(x)
    with pytest.warns(UserWarning, match="Multiply"):
        SparseMoE(2, 8, dtype="mixed_bfloat16")(2.0 * x)


# === Blocks take the mask of their inputs ===


def test_blocks_leave_out_the_padding_of_their_inputs():
    """As they do where the mask is given; and hand it on."""
    inputs = ids()
    x = embed(inputs)
    encoder = keras_moe.layers.EncoderBlock(
        keras_moe.layers.T5Attention(2, 4), SparseMoE(2, 8)
    )
    decoder = keras_moe.layers.DecoderBlock(
        keras_moe.layers.T5Attention(2, 4),
        keras_moe.layers.T5Attention(2, 4),
        SparseMoE(2, 8),
    )
    encoded = encoder(x)
    taken = keras.Model(inputs, decoder(x, encoded))
    mask = inputs != 0
    encoded = encoder(x, padding_mask=mask)
    given = keras.Model(
        inputs, decoder(x, encoded, padding_mask=mask, memory_mask=mask)
    )
    tokens = np.array([[1, 2, 3, 0], [4, 0, 0, 0]])
    np.testing.assert_array_equal(taken(tokens), given(tokens))
    alone = taken(tokens[1:, :1])
    np.testing.assert_allclose(taken(tokens)[1:, :1], alone, atol=1e-6)
