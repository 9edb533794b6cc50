"""Every router by its name: Keras's checks, files, served models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.layers.routers._presets import ROUTERS
from tests.layers.layer_test_case import run_layer_test
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import METRICS
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make

LOSSES = {
    "switch": 1,
    "gshard": 1,
    "glam": 1,
    "st_moe": 2,
    "v_moe": 1,
    "top_k": 2,
    "bias_balanced": 1,
    "expert_choice": 1,
    "soft": 0,
    "hash": 0,
    "locality_hash": 0,
}
SIZE = 20


def model(*names):
    """Ids to vectors, through a layer for each name."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(SIZE, DIM, mask_zero=True)(ids)
    for name in names:
        router = ROUTERS[name](4, name="router")
        moe = layers.SparseMoE(4, 8, router=router, name=name)
        x = keras.layers.Add()([x, moe(x, token_ids=ids)])
    return keras.Model(ids, x)


def ids(*shape):
    return np.random.randint(0, SIZE, shape).astype("int32")


def test_no_preset_is_forgotten():
    assert LOSSES.keys() == ROUTERS.keys()


@pytest.mark.parametrize("name", ["gshard", "glam", "st_moe", "top_k"])
@pytest.mark.parametrize("training", [False, True])
def test_one_expert_is_a_dense_network(name, training):
    router = ROUTERS[name](1, jitter_noise=0.0)
    moe = layers.SparseMoE(1, 8, router=router)
    x = np.random.rand(2, 5, DIM).astype("float32")
    outputs = moe(x, training=training)
    dense = moe.to_feed_forward()
    np.testing.assert_allclose(outputs, dense(x), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "weights", "seeds"),
    [
        pytest.param("gshard", 3, 1, marks=pytest.mark.large),
        pytest.param("expert_choice", 3, 1, marks=pytest.mark.large),
        ("soft", 4, 0),
    ],
)
def test_keras_layer_contract(name, weights, seeds):
    run_layer_test(
        layers.SparseMoE,
        {"num_experts": 3, "hidden_dim": 8, "router": name},
        input_shape=(2, 5, 4),
        expected_output_shape=(2, 5, 4),
        expected_num_losses=LOSSES[name],
        expected_num_trainable_weights=weights,
        expected_num_seed_generators=seeds,
        supports_masking=True,
    )


@pytest.mark.parametrize("name", ROUTERS)
def test_files_and_copies(name, tmp_path):
    kept = model(name)
    x = ids(4, 5)
    kept(x, training=True)
    assert len(kept.get_layer(name).losses) == LOSSES[name]
    assert METRICS <= {m.name.removeprefix(f"{name}/") for m in kept.metrics}
    kept.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), kept(x))
    mine, theirs = (m.get_layer(name).router for m in (loaded, kept))
    assert type(mine) is type(theirs)
    assert mine.get_config() == theirs.get_config()
    copy = keras.models.clone_model(kept)
    copy.set_weights(kept.get_weights())
    np.testing.assert_array_equal(copy(x), kept(x))


# One of each kind, and by default of those that no other file exports: tracing
# takes its time.
@pytest.mark.parametrize(
    "names",
    [
        ("soft", "expert_choice"),
        pytest.param(("gshard", "locality_hash"), marks=pytest.mark.large),
    ],
)
def test_one_model_trains_and_serves_any_shape(tmp_path, run_eagerly, names):
    kept = model(*names)
    kept.compile("sgd", "mse", jit_compile=False, run_eagerly=run_eagerly)
    x, y = ids(4, 5), data(4, 5)
    history = kept.fit(x, y, batch_size=2, verbose=0).history
    assert np.all(np.isfinite(list(history.values())))
    assert {f"{n}/{metric}" for n in names for metric in METRICS} <= set(
        history
    )
    kept.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    for shape in ((1, 1), (3, 4)):
        x = ids(*shape)
        np.testing.assert_allclose(served.serve(x), kept(x), atol=1e-5)


@pytest.mark.parametrize("name", ROUTERS)
def test_the_router_stays_in_float32(name):
    router = ROUTERS[name](4, name="router")
    layer = make(4, router=router, dtype="mixed_float16")
    assert router.compute_dtype == "float32"
    for weight in router.trainable_weights:
        assert weight.dtype == "float32"
    assert layer.experts.compute_dtype == layer.compute_dtype
    inputs = keras.ops.cast(data(2, 6), layer.compute_dtype)
    plan = router(
        np.asarray(keras.ops.cast(inputs, "float32")), token_ids=ids(2, 6)
    )
    assert plan.probabilities.dtype == "float32"
    assert plan.combine_weight.dtype == "float32"
    outputs = layer(inputs, token_ids=ids(2, 6), training=True)
    assert outputs.dtype == layer.compute_dtype
    assert all(loss.dtype == "float32" for loss in layer.losses)


@pytest.mark.parametrize("name", ["top_k", "expert_choice", "soft"])
def test_gradients_equal_finite_differences(name):
    router = ROUTERS[name](
        3,
        name="router",
        jitter_noise=0.0,
        kernel_initializer="glorot_normal",
    )
    layer = make(3, router=router, activation="tanh")
    inputs, upstream = tf.constant(data(1, 5)), data(1, 5)

    def loss():
        return tf.reduce_sum(layer(inputs) * upstream)

    with tf.GradientTape() as tape:
        value = loss()
    weights = layer.trainable_weights
    gradients = tape.gradient(value, [w.value for w in weights])
    step = 1e-2
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = np.random.normal(size=weight.shape).astype("float32")
        start = weight.numpy()
        weight.assign(start + step * direction)
        above = float(loss())
        weight.assign(start - step * direction)
        below = float(loss())
        weight.assign(start)
        slope = float(tf.reduce_sum(gradient * direction))
        assert (above - below) / (2 * step) == pytest.approx(
            slope, rel=0.03, abs=0.03
        ), weight.path
