import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.layers.layer_test_case import run_layer_test

DIM = 6


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def memory(**options):
    return layers.SketchMemory(8, 3, initializer="normal", seed=1, **options)


def slow(layer, x):
    out = x.copy()
    for table, each in enumerate(layer.hashes):
        directions = each.directions.numpy()
        directions = directions / np.linalg.norm(directions, axis=0)
        buckets = np.argmax(x @ directions, -1)
        out = out + layer.tables.numpy()[table][buckets] / layer.num_tables
    return out


def test_contract():
    run_layer_test(
        layers.SketchMemory,
        {"num_buckets": 4, "num_tables": 2, "seed": 3},
        input_shape=(2, 3, DIM),
        expected_output_shape=(2, 3, DIM),
        expected_num_trainable_weights=1,
        expected_num_non_trainable_weights=2,
        supports_masking=True,
    )


@pytest.mark.parametrize("shape", [(7,), (2, 5), (2, 3, 4)])
def test_equals_numpy(shape):
    layer, x = memory(), data(*shape)
    np.testing.assert_allclose(layer(x), slow(layer, x), atol=1e-6)


def test_it_starts_as_what_goes_through_and_learns_each_bucket_apart():
    layer, x = layers.SketchMemory(4, seed=0), data(300)
    np.testing.assert_array_equal(layer(x), x)
    with tf.GradientTape() as tape:
        out = layer(x)
    gradient = tf.convert_to_tensor(tape.gradient(out, layer.tables.value))
    plan = layer.hashes[0](x.reshape(1, -1, DIM))
    counts = np.bincount(np.ravel(plan.expert_index), minlength=4)
    np.testing.assert_allclose(gradient[0, :, 0], counts)
    assert counts.min() > 0


def test_direction_alone_counts():
    layer, x = memory(), data(9)
    np.testing.assert_allclose(layer(x) - x, layer(5 * x) - 5 * x, atol=1e-5)


def test_padding_reads_nothing_and_nan_stays():
    layer, x = memory(), data(2, 4)
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(layer(x, mask=mask)[~mask], x[~mask])
    np.testing.assert_allclose(
        layer(x, mask=mask)[mask], slow(layer, x)[mask], atol=1e-6
    )
    broken = x.copy()
    broken[0, 1] = np.nan
    for training in (False, True):
        with tf.GradientTape() as tape:
            out = layer(broken, training=training)
            kept = tf.boolean_mask(out, ~np.isnan(broken[..., 0]))
        assert np.isnan(out[0, 1]).all()
        assert np.isfinite(kept).all()
        gradient = tape.gradient(kept, layer.tables.value)
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_compiled_saved_and_exported_it_is_the_same(tmp_path):
    inputs = keras.Input((None, DIM))
    layer = layers.SketchMemory(8, initializer="normal")
    model = keras.Model(inputs, layer(inputs))
    x = data(2, 5)
    expected = np.asarray(model(x))
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, 1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), expected)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), expected, atol=1e-6)


def test_frozen_rows_stay_and_the_hash_always_does():
    inputs = keras.Input((DIM,))
    layer = memory()
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile("sgd", "mse", run_eagerly=True)
    before = [w.numpy() for w in layer.weights]
    model.fit(data(16), np.ones((16, 1)), verbose=0)
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(before, layer.weights, strict=True)
    ]
    assert sum(changed) == 1
    layer.trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    before = [w.numpy() for w in layer.weights]
    model.fit(data(16), np.ones((16, 1)), verbose=0)
    for one, other in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_load_of_buckets_is_measured_and_not_reported():
    layer = memory()
    layer(data(50))
    load = layer.hashes[0].expert_load.load()
    np.testing.assert_allclose(np.sum(load), 1, rtol=1e-6)
    assert not layer.metrics and not layer.losses


def test_half_precision_keeps_its_dtype():
    layer = memory(dtype="mixed_bfloat16")
    out = layer(data(2, 3))
    assert out.dtype == "bfloat16" and layer.tables.dtype == "float32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.SketchMemory(0), "num_buckets=0"),
        (lambda: layers.SketchMemory(1), "num_buckets=1"),
        (lambda: layers.SketchMemory(4, num_tables=0), "num_tables=0"),
        (lambda: memory()(np.ones((2, 3), int)), "floating-point"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
