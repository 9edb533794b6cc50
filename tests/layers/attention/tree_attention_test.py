import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe import conversion
from keras_moe import layers
from keras_moe.layers.attention._tree_paths import leaf_membership
from tests.layers.layer_test_case import run_layer_test

DIM, HEIGHT = 8, 3


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def make(**options):
    layer = layers.TreeAttention(2, 4, HEIGHT, **options)
    layer.build((None, None, DIM), (None, None, DIM))
    for weight in (layer.tree_bias, layer.level_logits):
        weight.assign(0.3 * np.random.normal(size=weight.shape))
    return layer


def heads_of(layer, name, x):
    part = getattr(layer, name)
    return (
        np.einsum("btm,mhd->bhtd", x, part.kernel) + part.bias.numpy()[:, None]
    )


def path(layer, head, u, grown):
    """The nodes that `u` passes, level by level, as (level, place)."""
    place, passed = 0, [(0, 0)]
    for level in range(grown):
        node = 2**level - 1 + place
        kernel = layer.tree_kernel.numpy()[head, :, node]
        right = u @ kernel + layer.tree_bias.numpy()[head, node] > 0
        place = 2 * place + int(right)
        passed.append((level + 1, place))
    return passed


def slow(layer, query, value, seen, grown):
    """Query by query and level by level, in loops over keys."""
    q, k, v = (
        heads_of(layer, name, x)
        for name, x in (("query", query), ("key", value), ("value", value))
    )
    out = np.zeros_like(q)
    for b, h, t in np.ndindex(q.shape[:3]):
        logits = layer.level_logits.numpy()[h, : grown + 1]
        alphas = np.exp(logits) / np.exp(logits).sum()
        paths = [path(layer, h, u, grown) for u in k[b, h]]
        total = weight = 0.0
        for node in path(layer, h, q[b, h, t], grown):
            same = [s for s, p in enumerate(paths) if node in p and seen[b, s]]
            if layer.leaf_only:
                if node[0] != grown or not same:
                    continue
                e = np.exp(k[b, h, same] @ q[b, h, t] / 2)
                total, weight = total + e @ v[b, h, same] / e.sum(), 1.0
            elif same:
                total = total + alphas[node[0]] * v[b, h, same].mean(0)
                weight += alphas[node[0]]
        out[b, h, t] = total / weight if weight else 0
    projection = layer.output_projection
    return np.einsum("bhtd,hdm->btm", out, projection.kernel) + projection.bias


def test_contract():
    run_layer_test(
        layers.TreeAttention,
        {"num_heads": 2, "key_dim": 3, "height": 2, "value_dim": 4},
        input_shape={"query_shape": (2, 5, DIM), "value_shape": (2, 3, DIM)},
        expected_output_shape=(2, 5, DIM),
        expected_num_trainable_weights=8 + 3,
        expected_num_non_trainable_weights=1,
        supports_masking=True,
        run_training_check=False,
    )


@pytest.mark.parametrize("leaf_only", [False, True])
@pytest.mark.parametrize("grown", [0, 2, HEIGHT])
def test_equals_a_slow_tree(leaf_only, grown):
    layer = make(leaf_only=leaf_only, grown_height=grown)
    query, value = data(2, 6), data(2, 9)
    seen = np.ones((2, 9), bool)
    seen[1, 2:] = False  # with two keys, most leaves are empty
    out = layer(query, value, value_mask=seen)
    expected = slow(layer, query, value, seen, grown)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("leaf_only", [False, True])
def test_a_row_that_is_wholly_masked_attends_to_nothing(leaf_only):
    layer, x = make(leaf_only=leaf_only, use_bias=False), data(2, 5)
    mask = np.array([[1, 1, 0, 1, 1], [0] * 5], bool)
    loud = np.where(mask[..., None], x, np.nan).astype("float32")
    with tf.GradientTape() as tape:
        out = layer(loud, loud, query_mask=mask, value_mask=mask)
    np.testing.assert_array_equal(np.asarray(out)[~mask], 0)
    assert np.asarray(out)[mask].any(-1).all() or leaf_only
    for gradient in tape.gradient(out, layer.trainable_variables):
        assert gradient is None or np.isfinite(gradient).all()


@pytest.mark.parametrize("leaf_only", [False, True])
def test_an_empty_batch_gives_an_empty_output(leaf_only):
    layer = make(leaf_only=leaf_only)
    assert layer(data(0, 5), data(0, 4)).shape == (0, 5, DIM)
    none_seen = layer(data(2, 5), data(2, 0))
    expected = np.broadcast_to(layer.output_projection.bias, none_seen.shape)
    np.testing.assert_array_equal(none_seen, expected)


def test_membership_is_exactly_one_leaf_and_has_a_gradient():
    decisions = tf.constant(np.random.normal(size=(1, 2, 50, 7)), "float32")
    with tf.GradientTape() as tape:
        tape.watch(decisions)
        member = leaf_membership(decisions, ops.array(3))
        wanted = tf.reduce_sum(member * np.arange(8, dtype="float32"))
    assert set(np.unique(member)) == {0.0, 1.0}
    np.testing.assert_array_equal(np.sum(member, -1), 1)
    # Going right right above the leaf is worth 1, times the sigmoid's slope.
    gradient = tape.gradient(wanted, decisions).numpy()
    above = 3 + np.argmax(member, -1)[..., None] // 2
    asked = np.take_along_axis(decisions.numpy(), above, -1)
    sigmoid = 1 / (1 + np.exp(-asked))
    np.testing.assert_allclose(
        np.take_along_axis(gradient, above, -1),
        sigmoid * (1 - sigmoid),
        rtol=1e-5,
    )
    assert (gradient[..., 0] != 0).all()


def test_trees_learn_all_their_weights():
    layer, x = make(), data(2, 30)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, x) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert len(gradients) == 11
    for gradient in gradients:
        assert np.abs(gradient).max() > 0


def test_growing_keeps_what_is_above_and_the_file_knows_it(tmp_path):
    inputs = keras.Input((None, DIM))
    layer = layers.TreeAttention(2, 4, HEIGHT, grown_height=1)
    model = keras.Model(inputs, layer(inputs, inputs))
    x = data(2, 9)
    evaluated = np.asarray(model(x))
    model.compile("sgd", "mse", run_eagerly=True)
    model.evaluate(x, x, verbose=0)
    model.fit(x, x, verbose=0)
    assert layer.grown_height == 1  # no call grows a tree
    assert layer.grow() == 2
    assert not np.allclose(model(x), evaluated)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[1].grown_height == 2
    layer.grow()
    with pytest.raises(ValueError, match="grown_height=3"):
        layer.grow()
    layer.grown.assign(1)
    layer.trainable = False
    with pytest.raises(RuntimeError, match="is frozen"):
        layer.grow()
    with pytest.raises(RuntimeError, match="is not built"):
        layers.TreeAttention(2, 4).grow()


def test_compiled_and_exported_it_is_the_same(tmp_path):
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, make()(inputs, inputs))
    x = data(2, 9)
    expected = np.asarray(model(x))
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), expected, atol=1e-5)


def test_mixed_precision_decides_alike():
    layer, x = make(dtype="mixed_bfloat16"), data(2, 9)
    out = layer(x, x)
    assert out.dtype == "bfloat16"
    assert np.isfinite(ops.cast(out, "float32")).all()
    assert layer.tree_kernel.dtype == "float32"


def dense_model():
    x = inputs = keras.Input((None, DIM))
    for name in ("lower", "upper"):
        x = keras.layers.Add()(
            [x, keras.layers.MultiHeadAttention(2, 4, name=name)(x, x)]
        )
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def test_a_dense_model_is_converted_layer_by_layer():
    dense, x = dense_model(), data(2, 7)
    upper = conversion.tree_attention(dense, ["upper"], height=2)
    kinds = [type(upper.get_layer(name)) for name in ("lower", "upper")]
    assert kinds == [keras.layers.MultiHeadAttention, layers.TreeAttention]
    np.testing.assert_array_equal(
        upper.get_layer("upper").query.kernel,
        dense.get_layer("upper")._query_dense.kernel,
    )
    upper.get_layer("upper").tree_bias.assign(np.full((2, 3), 0.5))
    both = conversion.tree_attention(upper, height=3, grown_height=0)
    assert both.get_layer("lower").height == 3
    np.testing.assert_array_equal(
        both.get_layer("upper").tree_bias, np.full((2, 3), 0.5)
    )
    assert np.isfinite(both(x)).all()
    # Nothing decides yet: the same for every query.
    alike = np.asarray(both.get_layer("lower")(x, x))
    np.testing.assert_allclose(alike, np.repeat(alike[:, :1], 7, 1), atol=1e-6)
    with pytest.raises(ValueError, match=r"\['middle'\]"):
        conversion.tree_attention(dense, ["middle"])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: layers.TreeAttention(2, 4, 0), "height=0"),
        (lambda: layers.TreeAttention(2, 4, 2, 3), "grown_height=3, height=2"),
        (lambda: layers.TreeAttention(2, 4, 2, -1), "grown_height=-1"),
        (
            lambda: layers.TreeAttention(4, 4, num_key_value_heads=2),
            "num_key_value_heads=2",
        ),
        (
            lambda: make()(data(1, 3), data(1, 3), use_causal_mask=True),
            "`use_causal_mask` must be left out",
        ),
        (
            lambda: make()(data(1, 3), data(1, 3), bias=np.ones((2, 3, 3))),
            "`bias` must be left out",
        ),
        (
            lambda: layers.TreeAttention(2, 4)(
                keras.Input((3, DIM)),
                keras.Input((3, DIM)),
                attention_mask=np.ones((1, 3, 3), bool),
            ),
            "`attention_mask` must be left out",
        ),
        (
            lambda: make()(np.ones((1, 3, DIM), int), data(1, 3)),
            "floating-point",
        ),
    ],
)
def test_errors_name_the_argument(run, message):
    with pytest.raises(ValueError, match=message):
        run()
