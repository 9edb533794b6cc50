import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe import layers
from keras_moe.layers.scale_invariant._scale_invariant_attention import over_sum
from keras_moe.optimizers import RelativeClipSGD
from keras_moe.optimizers import assert_scale_invariant
from tests.layers.layer_test_case import run_layer_test

DIM = 8
IDS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def test_contracts():
    run_layer_test(
        layers.ScaleInvariantAttention,
        {"num_heads": 4, "key_dim": 3, "num_key_value_heads": 2},
        input_shape={"query_shape": (2, 5, DIM), "value_shape": (2, 3, DIM)},
        expected_output_shape=(2, 5, DIM),
        expected_num_trainable_weights=4,
        supports_masking=True,
        run_training_check=False,
    )
    run_layer_test(
        layers.ScaleInvariantBlock,
        {"num_heads": 2, "key_dim": 3, "hidden_dim": 7, "dropout_rate": 0.1},
        input_shape=(2, 5, DIM),
        expected_output_shape=(2, 5, DIM),
        expected_num_trainable_weights=6,
        supports_masking=True,
    )


def slow(layer, query, value, visible):
    """Position by position, head by head."""
    heads = {
        name: np.einsum("btm,mhd->bhtd", x, getattr(layer, name).kernel)
        for name, x in (("query", query), ("key", value), ("value", value))
    }
    out = np.zeros_like(heads["query"])
    for b, h, t in np.ndindex(out.shape[:3]):
        seen = visible[b, t]
        scores = (heads["key"][b, h] @ heads["query"][b, h, t])[seen]
        if layer.center_scores and seen.any():
            scores = scores - scores.mean()
            scores = scores if scores.max() > 0 else np.ones_like(scores)
        scores = np.maximum(scores, 0)
        if scores.sum() > 0:
            out[b, h, t] = scores / scores.sum() @ heads["value"][b, h, seen]
    return np.einsum("bhtd,hdm->btm", out, layer.output_projection.kernel)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_numpy(causal, center):
    layer = layers.ScaleInvariantAttention(2, 3, center_scores=center)
    query, value = data(2, 4), data(2, 4)
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    out = layer(query, value, value_mask=mask, use_causal_mask=causal)
    visible = np.broadcast_to(mask[:, None], (2, 4, 4))
    if causal:
        visible = visible & np.tril(np.ones((4, 4), bool))
    np.testing.assert_allclose(
        out, slow(layer, query, value, visible), atol=1e-5
    )
    # The second row is wholly masked.
    np.testing.assert_array_equal(out[1], 0)


@pytest.mark.parametrize("center", [False, True])
def test_centered_scores_keep_a_gradient_where_none_is_positive(center):
    import tensorflow as tf

    layer = layers.ScaleInvariantAttention(1, DIM, center_scores=center)
    x = np.abs(data(1, 4))
    layer.build(x.shape, x.shape)
    layer.query.kernel.assign(np.eye(DIM)[:, np.newaxis])
    layer.key.kernel.assign(-np.eye(DIM)[:, np.newaxis])
    with tf.GradientTape() as tape:
        out = layer(x, x)
    gradient = tape.gradient(out, layer.query.kernel)
    assert np.any(gradient) == np.any(out) == center


def test_centered_scores_of_equal_keys_give_their_mean():
    x = np.repeat(data(1, 1), 3, axis=1)
    layer = layers.ScaleInvariantAttention(2, 3)
    one = layer(x[:, :1], x[:, :1])  # a single key, equal to its mean
    assert np.any(one)
    np.testing.assert_allclose(layer(x, x), np.repeat(one, 3, 1), rtol=1e-5)


def test_padding_of_nan_changes_nothing_and_has_no_gradient():
    import tensorflow as tf

    layer, x = layers.ScaleInvariantAttention(2, 3), data(2, 5)
    mask = np.arange(5) < np.array([[5], [3]])
    loud = np.where(mask[..., None], x, np.nan).astype("float32")
    masks = {"query_mask": mask, "value_mask": mask}
    with tf.GradientTape() as tape:
        out = layer(loud, loud, **masks)
    assert all(
        np.isfinite(g).all()
        for g in tape.gradient(out, layer.trainable_variables)
    )
    np.testing.assert_allclose(out, layer(x, x, **masks), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(out)[~mask], 0)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_a_query_that_is_not_a_number_is_not_hidden(center, jit):
    layer = layers.ScaleInvariantAttention(2, 3, center_scores=center)
    x = data(1, 4)
    layer(x, x)
    query = x.copy()
    query[0, 1, 0] = np.nan
    found = np.asarray(
        tf.function(layer, jit_compile=jit, autograph=False)(query, x)
    )
    assert np.isnan(found[0, 1]).all()
    assert np.isfinite(found[0, [0, 2, 3]]).all()


def test_an_empty_batch_gives_an_empty_output():
    attention = layers.ScaleInvariantAttention(2, 3)
    assert attention(data(0, 5), data(0, 4)).shape == (0, 5, DIM)
    assert attention(data(2, 5), data(2, 0)).shape == (2, 5, DIM)
    block = layers.ScaleInvariantBlock(2, 3, 7)
    assert block(data(0, 5)).shape == (0, 5, DIM)
    mask = np.ones((0, 5), bool)
    assert block(data(0, 5), padding_mask=mask).shape == (0, 5, DIM)


def test_sums_neither_overflow_nor_vanish_nor_divide_zeros():
    x = np.array([[3e38, 1e38], [2e-38, 0.0], [0.0, 0.0]], "float32")
    expected = [[0.75, 0.25], [1, 0], [0, 0]]
    np.testing.assert_allclose(over_sum(ops.array(x)), expected, rtol=1e-6)


def encoder(depth=3, dtype="float32", **broken):
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(10, DIM, mask_zero=True, dtype=dtype)(ids)
    x = keras.layers.LayerNormalization(epsilon=1e-20, dtype=dtype)(x)
    x = keras.layers.Dense(DIM, use_bias=False, dtype=dtype)(x)
    for _ in range(depth):
        x = layers.ScaleInvariantBlock(2, 4, 16, dtype=dtype)(x)
    norm = {"center": False, "scale": False, "epsilon": 1e-20, **broken}
    x = keras.layers.LayerNormalization(**norm, dtype=dtype)(x)
    model = keras.Model(ids, x)
    for weight in model.trainable_weights:  # biases of zero would hide much
        weight.assign(
            ops.convert_to_tensor(weight)
            + np.random.normal(scale=0.1, size=weight.shape)
        )
    return model


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 1e-4), ("float64", 1e-10)]
)
@pytest.mark.parametrize("scale", [37.0, 1 / 37])
def test_the_scale_of_all_weights_is_free(dtype, error, scale):
    assert_scale_invariant(encoder(dtype=dtype), IDS, scale, tolerance=error)


def test_the_check_finds_what_breaks_it_and_puts_weights_back():
    model = encoder(1, scale=True)
    before = [w.numpy() for w in model.weights]
    with pytest.raises(AssertionError, match="its outputs change by"):
        assert_scale_invariant(model, IDS)
    # A first block without the lift: of degree 1.
    x = keras.Input((None,), dtype="int32")
    y = keras.layers.Embedding(10, DIM)(x)
    y = layers.ScaleInvariantBlock(2, 4, 16)(y)
    y = keras.layers.LayerNormalization(
        center=False, scale=False, epsilon=1e-20
    )(y)
    with pytest.raises(AssertionError, match="functional"):
        assert_scale_invariant(keras.Model(x, y), IDS)
    for one, other in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_check_leaves_out_a_head_on_request():
    model = encoder(1)
    head = keras.layers.Dense(3)(model.output)
    whole = keras.Model(model.input, head)
    with pytest.raises(AssertionError, match="functional"):
        assert_scale_invariant(whole, IDS)
    assert_scale_invariant(whole, IDS, weights=model.trainable_weights)


def test_what_is_not_a_number_does_not_pass():
    dense = keras.layers.Dense(2)
    dense(np.ones((1, 3)))
    with pytest.raises(AssertionError, match="nan of their size"):
        assert_scale_invariant(dense, np.full((1, 3), np.nan))


def test_training_with_relative_clipping_learns(tmp_path):
    keras.utils.set_random_seed(0)
    model = encoder(1)
    model.compile(RelativeClipSGD(0.3, 0.01), "mse", jit_compile=False)
    target = np.random.normal(size=(2, 5, DIM))
    batches = tf.data.Dataset.from_tensors((IDS, target)).repeat(6)
    losses = model.fit(batches, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))
    assert loaded.optimizer.clip_factor == 2.0


def test_int8_survives_a_file(tmp_path):
    inputs = keras.Input((5, DIM))
    model = keras.Model(inputs, layers.ScaleInvariantBlock(2, 4, 16)(inputs))
    x = data(2, 5)
    exact = np.asarray(model(x))
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert np.abs(exact - np.asarray(model(x))).max() < 0.1 * exact.std()


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_a_number(dtype):
    block = layers.ScaleInvariantBlock(2, 4, 16, dtype=dtype)
    out = block(data(2, 5))
    assert keras.backend.standardize_dtype(out.dtype) == dtype[6:]
    assert np.isfinite(ops.cast(out, "float32")).all()


def test_frozen_blocks_stay():
    model = encoder(1)
    block = model.layers[4]
    assert isinstance(block, layers.ScaleInvariantBlock)
    block.trainable = False
    before = [w.numpy() for w in block.weights]
    model.compile(RelativeClipSGD(0.3, 0.01), "mse", run_eagerly=True)
    model.fit(IDS, np.ones((2, 5, DIM)), verbose=0)
    for one, other in zip(before, block.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="use_bias=True"):
        layers.ScaleInvariantAttention(2, 3, use_bias=True)
    with pytest.raises(ValueError, match="`bias` must be None"):
        layers.ScaleInvariantBlock(2, 3, 4)(data(1, 2), bias=np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="scale=1"):
        assert_scale_invariant(encoder(1), IDS, scale=1)
    with pytest.raises(ValueError, match="`scale` must be positive"):
        assert_scale_invariant(encoder(1), IDS, scale=-1)
    with pytest.raises(ValueError, match="trainable weights"):
        assert_scale_invariant(keras.layers.ReLU(), IDS)
    with pytest.raises(ValueError, match="floating-point"):
        layers.ScaleInvariantBlock(2, 3, 4)(IDS[..., None])
