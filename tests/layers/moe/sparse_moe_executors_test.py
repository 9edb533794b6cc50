"""One plan, several executors: equal outputs, equal gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.covering import covering
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import make
from tests.layers.routers.router_case import SPARSE
from tests.layers.routers.router_case import router

EXECUTORS = ("gather", "einsum", "ragged")


def ids(inputs):
    """Ids for the routers that look at them."""
    shape = inputs.shape[:-1]
    return (np.arange(np.prod(shape)) * 7 % 40).reshape(shape)


def with_gradients(layer, inputs, mask, training):
    weights = [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        outputs = layer(x, mask=mask, token_ids=ids(inputs), training=training)
        weigh = tf.sin(
            tf.reshape(tf.range(1.0 * x.shape.num_elements()), x.shape)
        )
        loss = tf.reduce_sum(weigh * outputs) + sum(layer.losses)
    gradients = tape.gradient(loss, [x, *weights])
    return outputs, [
        tf.zeros_like(w) if g is None else g
        for w, g in zip([x, *weights], gradients, strict=True)
    ]


def one_of_each(name, executors=EXECUTORS, **kwargs):
    """Layers of equal weights, each with another executor."""
    made = []
    for dispatch in executors:
        layer = make(
            4,
            router=router(name, group_size=6, capacity_factor=1.0),
            dispatch=dispatch,
            **kwargs,
        )
        for mine, theirs in zip(
            layer.weights, made[0].weights if made else [], strict=False
        ):
            mine.assign(theirs)
        made.append(layer)
    return made


@pytest.mark.parametrize(
    ("name", "training"), covering(SPARSE, [False, True], strength=1)
)
def test_outputs_and_gradients_are_equal(name, training):
    padded = training
    inputs = data(2, 7)  # 14 tokens in groups of six
    mask = np.random.random((2, 7)) < 0.7 if padded else None
    made = one_of_each(name, gated=padded, use_bias=True)
    want, want_gradients = with_gradients(made[0], inputs, mask, training)
    assert np.any(want)
    for layer in made[1:]:
        outputs, gradients = with_gradients(layer, inputs, mask, training)
        np.testing.assert_allclose(outputs, want, atol=1e-5)
        for mine, theirs in zip(gradients, want_gradients, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("executor", "name", "poison"),
    covering(EXECUTORS, ["top_2", "expert_choice"], [np.nan, np.inf]),
)
def test_poison_at_padding_reaches_nothing(executor, name, poison):
    (layer,) = one_of_each(name, [executor])
    mask = np.random.random((2, 7)) < 0.7
    clean = data(2, 7)
    bad = np.where(mask[..., None], clean, np.float32(poison))
    for training in (False, True):
        want, want_gradients = with_gradients(layer, clean, mask, training)
        outputs, gradients = with_gradients(layer, bad, mask, training)
        np.testing.assert_allclose(outputs, want, atol=1e-6)
        assert not np.any(np.asarray(outputs)[~mask])
        for mine, theirs in zip(gradients, want_gradients, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("executor", "name"),
    covering(EXECUTORS, ["top_2", "expert_choice"], strength=1),
)
def test_unknown_shapes_in_a_graph(executor, name):
    (layer,) = one_of_each(name, [executor])
    signature = [
        tf.TensorSpec([None, None, DIM]),
        tf.TensorSpec([None, None], tf.bool),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def function(inputs, mask):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask, training=True)
            loss = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(loss, inputs)

    for shape in ((1, 1), (3, 5), (2, 6)):
        inputs = data(*shape)
        mask = np.random.random(shape) < 0.8
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            want = layer(x, mask=mask, training=True)
            loss = tf.reduce_sum(tf.square(want))
        outputs, gradient = function(inputs, mask)
        np.testing.assert_allclose(outputs, want, atol=1e-5)
        np.testing.assert_allclose(gradient, tape.gradient(loss, x), atol=1e-4)


# "ragged" has slots where shapes must be static. By default, "einsum" is
# compiled in generation/compiled_test.py, "gather" below, and both with
# gradients in ops/routing/dispatch_test.py.
@pytest.mark.parametrize(
    ("executor", "training"),
    [
        pytest.param("gather", True, marks=pytest.mark.large),
        ("ragged", False),
        pytest.param("einsum", True, marks=pytest.mark.large),
    ],
)
def test_compiled_by_xla(executor, training):
    (layer,) = one_of_each("top_2", [executor])
    inputs, mask = data(2, 7), np.random.random((2, 7)) < 0.8

    @tf.function(jit_compile=True, autograph=False)
    def function(inputs, mask):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask, training=training)
            loss = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(loss, inputs)

    outputs, gradient = function(tf.constant(inputs), tf.constant(mask))
    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        want = layer(x, mask=mask, training=training)
        loss = tf.reduce_sum(tf.square(want))
    np.testing.assert_allclose(outputs, want, atol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(loss, x), atol=1e-4)


def test_an_export_that_was_traced_for_xla_is_compiled_by_it(tmp_path):
    """Others keep sizes that are known at run time alone: see the guide."""
    layer = layers.SparseMoE(4, 8)
    inputs = keras.Input((7, 6))
    model = keras.Model(inputs, layer(inputs))
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve",
        tf.function(model, jit_compile=True, autograph=False),
        [tf.TensorSpec((None, 7, 6))],
    )
    archive.write_out(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    serve = tf.function(served.serve, jit_compile=True, autograph=False)
    x = data(3, 7)
    np.testing.assert_allclose(serve(x), model(x), atol=1e-5)


def test_jacobian():
    layer = layers.SparseMoE(4, 3)
    x = tf.constant(data(1, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = layer(x)[0, 1, 0]
        rows = layer(x)
    jacobian = tape.jacobian(rows, x, experimental_use_pfor=False)
    np.testing.assert_allclose(jacobian[0, 1, 0], tape.gradient(y, x))


@pytest.mark.parametrize("executor", ["gather", "ragged"])
def test_soft_plans_are_refused_by_name(executor):
    with pytest.raises(ValueError, match="(?is)soft.*einsum"):
        layer = layers.SparseMoE(4, 8, router=router("soft"), dispatch=executor)
        layer(data(1, 4))


def test_auto_executes_soft_plans_too():
    layer = make(4, router=router("soft"), dispatch="auto")
    same = make(4, router=router("soft"), dispatch="einsum")
    for mine, theirs in zip(same.weights, layer.weights, strict=True):
        mine.assign(theirs)
    inputs = data(2, 5)
    np.testing.assert_allclose(layer(inputs), same(inputs), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_mixed_precision(executor, policy):
    exact = one_of_each("top_2", ["gather"])[0]
    (layer,) = one_of_each("top_2", [executor], dtype=policy)
    for mine, theirs in zip(layer.weights, exact.weights, strict=True):
        mine.assign(theirs)
    inputs = keras.ops.cast(data(2, 6), layer.compute_dtype)
    outputs = layer(inputs)
    assert outputs.dtype == layer.compute_dtype
    want = exact(keras.ops.cast(inputs, "float32"))
    error = np.abs(keras.ops.cast(outputs, "float32") - want)
    assert error.max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
def test_empty_batches(executor, shape):
    (layer,) = one_of_each("top_2", [executor])
    for training in (False, True):
        assert layer(data(*shape), training=training).shape == (*shape, DIM)
