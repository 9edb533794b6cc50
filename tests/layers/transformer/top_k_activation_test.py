import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from keras_moe import layers
from keras_moe.layers.moe._merge_experts import merge_experts
from keras_moe.layers.transformer._top_k_activation import keep_top_k
from tests.layers.layer_test_case import run_layer_test

WIDTH = 16


def data(*shape):
    return np.random.normal(size=shape).astype("float32")


def slow(x, k):
    """Zeros all but the k largest; of equal ones the first are kept."""
    out = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        kept = np.argsort(-x[row], kind="stable")[:k]
        out[row][kept] = x[row][kept]
    return out


def test_contract():
    run_layer_test(
        layers.TopKActivation,
        {"k": 3, "activation": "gelu", "report_metrics": False},
        input_data=data(2, 5, WIDTH),
        expected_output_shape=(2, 5, WIDTH),
        expected_num_trainable_weights=0,
        supports_masking=True,
    )
    run_layer_test(
        layers.ActivationSparsity,
        {},
        input_data=data(2, 5, WIDTH),
        expected_output_shape=(2, 5, WIDTH),
        supports_masking=True,
    )


@given(
    # Few numbers: ties are the rule.
    hnp.arrays("float32", (3, 7), elements=st.sampled_from([-1.0, 0.0, 2.0])),
    st.integers(1, 7),
)
def test_exactly_k_whatever_is_equal(x, k):
    x = x + 5.0  # no zero of its own
    kept = np.asarray(keep_top_k(ops.convert_to_tensor(x), k))
    np.testing.assert_array_equal(kept, slow(x, k))
    assert ((kept != 0).sum(-1) == k).all()


def test_relu_comes_first_and_the_width_keeps_all():
    x = data(4, WIDTH)
    relu = np.maximum(x, 0)
    np.testing.assert_array_equal(layers.TopKActivation(WIDTH)(x), relu)
    np.testing.assert_array_equal(layers.TopKActivation(3)(x), slow(relu, 3))


def test_gradients_reach_what_is_kept_alone():
    import tensorflow as tf

    x = tf.constant(data(4, WIDTH))
    layer = layers.TopKActivation(2, activation=None)
    with tf.GradientTape() as tape:
        tape.watch(x)
        kept = layer(x)
    gradient = tape.gradient(kept, x).numpy()
    np.testing.assert_array_equal(gradient, kept.numpy() != 0)


def test_nan_stays_in_its_row():
    x = data(3, WIDTH)
    x[1, 4] = np.nan
    out = np.asarray(layers.TopKActivation(2)(x))
    assert np.isnan(out).any(-1).tolist() == [False, True, False]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_network_with_it_equals_numpy(compiled):
    network = layers.FeedForward(WIDTH, layers.TopKActivation(3), gated=True)
    x = data(2, 5, 4)
    network(x)
    hidden = slow(np.maximum(x @ network.inner.kernel.numpy(), 0), 3)
    hidden = hidden * (x @ network.gate.kernel.numpy())
    expected = hidden @ network.outer.kernel.numpy()
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, network(inputs))
    model.compile(jit_compile=compiled)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("dispatch", ["gather", "einsum", "ragged"])
def test_executors_agree_on_outputs_and_figures(dispatch):
    x = data(2, 6, 4)
    mask = np.arange(6) < np.array([[6], [3]])
    moe = layers.SparseMoE(
        3, WIDTH, activation=layers.TopKActivation(2), dispatch=dispatch
    )
    y = np.asarray(moe(x, mask=mask, training=False))
    assert np.isfinite(y).all()
    kernel = moe.experts.inner.kernel.numpy()
    experts = np.asarray(moe.router(x.reshape(1, -1, 4)).expert_index)
    shares = [
        np.mean(slow(np.maximum(row @ kernel[e], 0), 2) == 0)
        for row, e, real in zip(
            x.reshape(-1, 4), experts.ravel(), mask.ravel(), strict=True
        )
        if real
    ]
    measured = moe.experts.activation.activation_sparsity.sparsity.result()
    np.testing.assert_allclose(measured, np.mean(shares), rtol=1e-5)


def test_each_layer_measures_its_own_once():
    activation = layers.TopKActivation(4)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    blocks = [layers.FeedForward(WIDTH, activation) for _ in range(2)]
    for block in blocks:
        x = block(x)
    x = keras.layers.Dense(WIDTH, activation=activation)(x)
    x = layers.ActivationSparsity(name="behind")(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse", run_eagerly=True)
    ids = np.array([[1, 2, 3], [4, 0, 0]])
    logs = model.evaluate(ids, data(2, 3, WIDTH), verbose=0, return_dict=True)
    names = [n for n in logs if n.endswith("sparsity") or n == "behind"]
    assert len(names) == 4
    assert all(1 - 4 / WIDTH <= logs[name] <= 1 for name in names)
    assert logs["behind"] == logs[names[2]]
    # Padding does not count.
    counted = blocks[0].activation.activation_sparsity.sparsity.count
    assert float(counted) == 4


def test_evaluation_and_frozen_layers_compute_the_same():
    layer = layers.FeedForward(WIDTH, layers.TopKActivation(3))
    x = data(2, 3, 4)
    before = np.asarray(layer(x, training=True))
    layer.trainable = False
    np.testing.assert_array_equal(layer(x), before)
    assert not layer.trainable_weights
    assert float(layer.activation.activation_sparsity.sparsity.count) == 12


def test_mixed_precision_keeps_k():
    layer = layers.FeedForward(
        WIDTH, layers.TopKActivation(3), dtype="mixed_bfloat16"
    )
    assert layer.activation.compute_dtype == "bfloat16"
    assert layer(data(2, 3, 4)).dtype == "bfloat16"
    hidden = layer.activation(ops.ones((2, WIDTH)))
    assert (np.asarray(ops.cast(hidden, "float32")) != 0).sum(-1).max() == 3


def test_a_file_keeps_it_in_networks_and_experts(tmp_path):
    inputs = keras.Input((3, 4))
    x = layers.FeedForward(WIDTH, layers.TopKActivation(2))(inputs)
    x = layers.SparseMoE(2, WIDTH, activation=layers.TopKActivation(5))(x)
    x = keras.layers.Dense(WIDTH, activation=layers.TopKActivation(1))(x)
    model = keras.Model(inputs, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = data(2, 3, 4)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[2].experts.activation.k == 5
    assert [m.name for m in loaded.metrics] == [m.name for m in model.metrics]
    model.export(tmp_path / "served", verbose=False)
    import tensorflow as tf

    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)


def test_a_merged_network_has_an_activation_of_its_own():
    moe = layers.SparseMoE(2, WIDTH, activation=layers.TopKActivation(5))
    moe(data(1, 3, 4))
    merged = merge_experts(moe.experts)
    assert merged.activation.k == 5
    assert merged.activation is not moe.experts.activation


@pytest.mark.parametrize("k", [0, -1, 1.5, None, True])
def test_k_is_a_positive_integer(k):
    with pytest.raises(ValueError, match=f"`k` must be.*k={k}"):
        layers.TopKActivation(k)


def test_k_above_the_width_is_refused_before_anything_is_made():
    layer = layers.FeedForward(4, layers.TopKActivation(5))
    with pytest.raises(ValueError, match="k=5"):
        layer.build((None, 8))
    assert not layer.weights
    experts = layers.Experts(2, 4, layers.TopKActivation(5))
    with pytest.raises(ValueError, match="k=5"):
        experts.build((None, 2, None, 8))


def test_ids_are_no_activations():
    with pytest.raises(ValueError, match="floating-point"):
        layers.TopKActivation(2)(np.array([[1, 2, 3]]))
