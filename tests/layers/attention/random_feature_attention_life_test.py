"""Training, saving, converting, and the statistics."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.layers import RandomFeatureAttention
from keras_moe.training._build_state import build_optimizer
from tests.covering import covering
from tests.layers.attention.random_feature_case import DIM
from tests.layers.attention.random_feature_case import data
from tests.layers.attention.random_feature_case import make


def model(**arguments):
    inputs = keras.Input((None, DIM))
    masked = keras.layers.Masking()(inputs)
    outputs = make(name="attention", **arguments)(masked, masked)
    return keras.Model(inputs, keras.layers.Dense(2)(outputs))


# By default a causal layer is trained and exported below; XLA compiles its sums
# and their gradients in ops/linear_attention.
@pytest.mark.parametrize(
    "causal", [False, pytest.param(True, marks=pytest.mark.large)]
)
def test_trains_and_is_the_same_compiled(causal):
    x = data(8, 10)
    trained = model(causal=causal, rotary=True)
    untrained = trained.get_weights()
    in_xla = tf.function(trained, jit_compile=True, autograph=False)
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        trained.set_weights(untrained)
        trained.compile(keras.optimizers.Adam(0.03), "mse", **options)
        build_optimizer(trained)  # or Keras traces the step twice
        history = trained.fit(x, x[..., :2], epochs=6, verbose=0).history
        assert history["loss"][-1] < 0.8 * history["loss"][0]
        assert history["attention/relative_variance"][-1] > 0.0
        np.testing.assert_allclose(in_xla(x), trained(x), atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("mixed_bfloat16", {"run_eagerly": True}),
        ("mixed_float16", {"run_eagerly": True}),
        *(
            pytest.param(policy, {"jit_compile": jit}, marks=pytest.mark.large)
            for policy in ("mixed_bfloat16", "mixed_float16")
            for jit in (False, True)
        ),
    ],
)
def test_low_precision_costs_no_more_than_its_projections(policy, options):
    precise, low = make(256), make(256, dtype=policy)
    x = data(2, 60)
    precise.adapt(x, x)
    low.build(x.shape, x.shape)
    low.set_weights(precise.get_weights())
    assert low.features.fitted_projection.dtype == "float32"
    received = low(x, x)
    assert received.dtype == policy.removeprefix("mixed_")
    difference = np.asarray(received, "float32") - precise(x, x)
    bound = {"mixed_bfloat16": 0.03, "mixed_float16": 0.004}[policy]
    assert np.linalg.norm(difference) < bound * np.linalg.norm(precise(x, x))
    trained = model(dtype=policy)
    trained.compile("adam", "mse", **options)
    build_optimizer(trained)  # or Keras traces the step twice
    trained.fit(data(4, 9), data(4, 9)[..., :2], verbose=0)


def test_saves_and_exports(tmp_path, run_eagerly):
    x = data(4, 11)
    trained = model(causal=True)
    trained.compile("adam", "mse", run_eagerly=run_eagerly, jit_compile=False)
    trained.fit(x, x[..., :2], verbose=0)
    reference = trained(x)
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), reference)
    trained.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    for batch, length in ((1, 7), (2, 150)):
        inputs = data(batch, length)
        np.testing.assert_allclose(
            served.serve(inputs), trained(inputs), atol=1e-5
        )
    # Statistics are frozen: nothing is assigned.
    concrete = served.signatures["serving_default"].graph.as_graph_def()
    functions = concrete.library.function
    nodes = [n.op for n in concrete.node]
    nodes += [n.op for f in functions for n in f.node_def]
    assert nodes and not [op for op in nodes if op.startswith("Assign")]


def test_may_be_built_while_a_graph_is_traced():
    layer, x = make(causal=True), data(2, 9)
    in_graph = tf.function(lambda x: layer(x, x), autograph=False)(x)
    np.testing.assert_allclose(layer(x, x), in_graph, atol=1e-5)


def test_the_config_makes_the_same_layer():
    layer = make(causal=True, covariance="per_dimension", seed=None)
    clone = RandomFeatureAttention.from_config(layer.get_config())
    x = data(1, 4)
    layer(x, x)
    clone(x, x)
    assert clone.get_config() == layer.get_config()
    # The seed is one, even if it was drawn.
    np.testing.assert_array_equal(
        clone.features.drawn_projection, layer.features.drawn_projection
    )
    other = make(seed=None)
    other(x, x)
    assert other.features.seed != layer.features.seed


def test_statistics_are_moving_averages():
    layer = make(momentum=0.9, redraw_interval=None)
    batches = [data(2, 30, seed=i, scale=1.0 + i) for i in range(14)]
    layer.build(batches[0].shape, batches[0].shape)
    mean = square = 0.0
    for number, x in enumerate(batches, 1):
        layer(x, x, training=True)
        heads = np.asarray(layer.query_heads(x)) * layer.key_dim**-0.25
        rate = max(0.1, 1.0 / number)
        of_batch = heads.mean(axis=(0, 2, 3))
        mean = mean + rate * (of_batch - mean)
        products = np.einsum("bngtd,bngte->nde", heads, heads) / 60
        square = square + rate * (products - square)
    received = layer.features.query_moments
    np.testing.assert_allclose(received[0], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(received[1], square, rtol=1e-4, atol=1e-4)


def test_nothing_changes_outside_of_training():
    x = data(2, 9)
    layer = make()
    layer.adapt(x, x)
    before = layer.get_weights()
    layer(2.0 * x, x, training=False)
    layer(2.0 * x, x)
    layer.trainable = False
    layer(2.0 * x, x, training=True)
    for weight, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_batch_of_padding_says_nothing():
    x = data(2, 9)
    layer = make()
    layer.adapt(x, x)
    before = [np.asarray(w) for w in layer.features.query_moments]
    nothing = np.zeros((2, 9), bool)
    layer(x, x, query_mask=nothing, value_mask=nothing, training=True)
    for weight, old in zip(layer.features.query_moments, before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize(
    ("covariance", "content"),
    covering(["isotropic", "dense"], [np.nan, np.inf, 1e25], strength=1),
)
def test_one_broken_batch_is_not_remembered(covariance, content):
    x = data(2, 9)
    layer, other = (make(covariance=covariance) for _ in range(2))
    layer.build(x.shape, x.shape)
    other.build(x.shape, x.shape)
    other.set_weights(layer.get_weights())
    broken = x.copy()
    broken[0, 0, 0] = content
    for each in (x, x, broken, x, x):
        layer(each, each, training=True)
        if each is not broken:
            other(x, x, training=True)
    for received, expected in zip(
        layer.features.query_moments, other.features.query_moments, strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3)
    assert layer.features.num_updates == other.features.num_updates
    assert np.isfinite(np.asarray(layer(x, x))).all()
    assert np.asarray(layer(x, x)).any()


@pytest.mark.parametrize("feature_map", ["favor++", "relu"])
def test_projections_are_redrawn_on_an_interval(feature_map):
    layer = make(feature_map=feature_map, redraw_interval=3)
    x = data(1, 5)
    layer.build(x.shape, x.shape)
    step = tf.function(lambda x: layer(x, x, training=True), autograph=False)
    draws = []
    for _ in range(9):
        step(x)
        draws.append(np.asarray(layer.features.drawn_projection))
    for number in (2, 5, 8):
        assert np.abs(draws[number] - draws[number - 1]).max() > 0.1
    np.testing.assert_array_equal(draws[2], draws[3])
    np.testing.assert_array_equal(draws[5], draws[6])
    again = make(feature_map=feature_map, redraw_interval=3)
    again.build(x.shape, x.shape)
    for _ in range(6):
        again(x, x, training=True)
    np.testing.assert_allclose(
        again.features.drawn_projection, draws[5], atol=1e-5
    )


def test_projections_may_stay():
    layer = make(redraw_interval=None)
    x = data(1, 5)
    layer.build(x.shape, x.shape)
    first = np.asarray(layer.features.drawn_projection)
    for _ in range(5):
        layer(x, x, training=True)
    np.testing.assert_allclose(
        layer.features.drawn_projection, first, atol=1e-6
    )


def test_warns_where_features_are_noise(run_eagerly):
    x = data(4, 20, scale=4.0)
    noisy = model()
    noisy.compile("sgd", "mse", run_eagerly=run_eagerly)
    with pytest.warns(UserWarning, match="attention/relative_variance is"):
        noisy.fit(x, x[..., :2], verbose=0)
    calm = model()
    calm.compile("sgd", "mse", run_eagerly=run_eagerly)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*relative_variance.*")
        calm.fit(0.2 * x, x[..., :2], verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_converts_multi_head_attention(dtype):
    exact = keras.layers.MultiHeadAttention(
        4,
        6,
        value_dim=5,
        output_shape=7,
        kernel_regularizer="l2",
        bias_initializer="glorot_uniform",
        dtype=dtype,
        name="attention",
    )
    x, value, key = data(2, 9), data(2, 8)[..., :4], data(2, 8)[..., :3]
    exact(x, value, key)
    layer = RandomFeatureAttention.from_multi_head_attention(exact)
    assert layer.name == "attention"
    assert layer.dtype_policy.name == dtype
    assert len(layer.trainable_weights) == len(exact.trainable_weights)
    for kept, old in zip(
        layer.trainable_weights, exact.trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(kept, old)
        assert (kept.regularizer is None) == (old.regularizer is None)
    assert layer(x, value, key).shape == (2, 9, 7)


def test_converts_grouped_query_attention():
    exact = keras.layers.GroupQueryAttention(6, 4, 2)
    x = data(2, 50, scale=0.5)
    softmax = exact(x, x)
    layer = RandomFeatureAttention.from_multi_head_attention(
        exact, num_random_features=2048, exact_below=None, seed=1
    )
    layer.adapt(x, x)
    error = np.linalg.norm(layer(x, x) - softmax) / np.linalg.norm(softmax)
    assert error < 0.05


def test_converts_a_layer_that_was_never_built():
    exact = keras.layers.MultiHeadAttention(2, 4)
    layer = RandomFeatureAttention.from_multi_head_attention(exact, causal=True)
    assert layer.causal and not layer.built


@pytest.mark.parametrize(
    "exact, message",
    [
        (keras.layers.MultiHeadAttention(2, 4, sliding_window=3), "sliding"),
        (keras.layers.MultiHeadAttention(2, 4, attention_axes=(2,)), "axes"),
        (keras.layers.MultiHeadAttention(2, 4, use_gate=True), "use_gate"),
        (keras.layers.MultiHeadAttention(2, 4, output_shape=(2, 3)), "output"),
    ],
)
def test_refuses_what_it_cannot_convert(exact, message):
    with pytest.raises(ValueError, match=message):
        RandomFeatureAttention.from_multi_head_attention(exact)


def test_refuses_other_layers_and_tells_of_dropout():
    with pytest.raises(TypeError, match="Dense"):
        RandomFeatureAttention.from_multi_head_attention(keras.layers.Dense(2))
    with pytest.warns(UserWarning, match="drops attention weights"):
        RandomFeatureAttention.from_multi_head_attention(
            keras.layers.MultiHeadAttention(2, 4, dropout=0.1)
        )


def test_quantizes_and_takes_lora(tmp_path):
    x = data(2, 9)
    small = model()
    reference = np.asarray(small(x))
    attention = small.get_layer("attention")
    attention.query.enable_lora(2)
    np.testing.assert_allclose(small(x), reference, rtol=1e-6, atol=1e-7)
    quantized = model()
    quantized.set_weights(model().get_weights())
    reference = np.asarray(quantized(x))
    quantized.quantize("int8")
    received = np.asarray(quantized(x))
    scale = np.abs(reference).max()
    assert 0.0 < np.abs(received - reference).max() < 0.1 * scale
    quantized.save(tmp_path / "int8.keras")
    loaded = keras.models.load_model(tmp_path / "int8.keras")
    np.testing.assert_allclose(loaded(x), received, atol=1e-6)
