import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.optimizers import RelativeClipSGD


def run(start, gradient_of, steps, **settings):
    """Returns the iterates of one weight, whose gradient is a function."""
    start = np.asarray(start)
    weight = keras.Variable(start, dtype=start.dtype.name)
    optimizer = RelativeClipSGD(**settings)
    optimizer.build([weight])
    path = [start]
    for _ in range(steps):
        optimizer.apply([ops.convert_to_tensor(gradient_of(path[-1]))])
        path.append(weight.numpy())
    return np.stack(path)


def rayleigh(scale=1.0):
    """Gradient of a loss that depends on the direction alone."""
    matrix = np.diag([1.0, 2.0, 4.0]).astype("float32")

    def gradient(x):
        size = x @ x
        value = x @ matrix @ x / size
        return (scale * 2 * (matrix @ x - value * x) / size).astype(x.dtype)

    return gradient


START = np.array([0.5, -1.0, 0.25], "float32")


def test_steps_equal_numpy():
    rate, decay, factor = 0.3, 0.01, 1.5
    draws = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    draws *= np.geomspace(0.01, 3, 20, dtype="float32")[:, None]
    turn = iter(draws)
    path = run(
        START,
        lambda _: next(turn),
        20,
        learning_rate=rate,
        weight_decay=decay,
        clip_factor=factor,
    )
    x, clipped = START.astype("float64"), 0
    for step, g in enumerate(draws.astype("float64"), 1):
        most = factor * np.sqrt(2 * decay / rate) * np.linalg.norm(x)
        share = min(1.0, most / np.linalg.norm(g))
        clipped += share < 1
        x = (1 - rate * decay) * x - rate * share * g
        np.testing.assert_allclose(path[step], x, rtol=2e-5)
    assert 5 < clipped < 20


def test_the_scale_of_the_loss_is_the_unit_of_rate_and_decay():
    one = run(START, rayleigh(), 30, learning_rate=0.5, weight_decay=0.02)
    c = 8.0  # a power of two: no rounding differs
    other = run(
        START, rayleigh(c), 30, learning_rate=0.5 / c, weight_decay=0.02 * c
    )
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_scale_of_the_start_is_the_unit_of_the_root_of_the_rate():
    one = run(START, rayleigh(), 30, learning_rate=0.5, weight_decay=0.02)
    c = 16.0
    other = run(
        c * START,
        rayleigh(),
        30,
        learning_rate=0.5 * c**2,
        weight_decay=0.02 / c**2,
    )
    np.testing.assert_allclose(c * one, other, rtol=1e-6)


@pytest.mark.parametrize("of_gradient", [1e-15, 1.0, 1e15, 1e20])
@pytest.mark.parametrize("of_weights", [1e-15, 1e-10, 1.0, 1e15])
def test_no_scale_overflows_or_vanishes(of_weights, of_gradient):
    x = (of_weights * START).astype("float32")
    g = (of_gradient * START[::-1]).astype("float32")
    path = run(x, lambda _: g, 1, learning_rate=0.3, weight_decay=0.01)
    most = 2 * np.sqrt(2 * 0.01 / 0.3) * of_weights
    step = 0.3 * g.astype("float64") * min(1.0, most / of_gradient)
    np.testing.assert_allclose(path[1], (1 - 0.003) * x - step, rtol=1e-5)


def test_weights_settle_at_the_norm_of_the_theory_and_are_not_clipped():
    rate, decay, sigma = 0.2, 0.1, 3.0

    def gradient(x):  # sigma on the unit sphere, across the weights
        return sigma * np.array([-x[1], x[0]]) / (x @ x)

    settings = {"learning_rate": rate, "weight_decay": decay}
    path = run(np.array([4.0, 0.0]), gradient, 300, **settings)
    expected = sigma * np.sqrt(rate / (decay * (2 - rate * decay)))
    np.testing.assert_allclose(path[-1] @ path[-1], expected, rtol=1e-6)
    optimizer = RelativeClipSGD(**settings, clip_factor=1.01)
    optimizer.build([keras.Variable(path[-1])])
    scale = optimizer.clip_scale([gradient(path[-1])], [path[-1]])
    assert float(scale) == 1.0


@pytest.mark.parametrize("lost", ["weights", "gradient", "rate", "all"])
def test_zeros_move_nothing_and_are_numbers(lost):
    start = 0 * START if lost in ("weights", "all") else START
    gradient = 0 * START if lost in ("gradient", "all") else 1e3 + START
    path = run(
        start,
        lambda _: gradient,
        2,
        learning_rate=0.0 if lost in ("rate", "all") else 0.5,
        weight_decay=0.01,
    )
    assert np.isfinite(path).all()
    decayed = (1 - 0.5 * 0.01) ** 2 if lost == "gradient" else 1.0
    np.testing.assert_allclose(path[-1], start * decayed, rtol=1e-6)


def test_no_clip_factor_never_clips():
    path = run(
        START,
        lambda _: 1e6 * START,
        1,
        learning_rate=1.0,
        weight_decay=0.5,
        clip_factor=None,
    )
    np.testing.assert_allclose(path[-1], (0.5 - 1e6) * START, rtol=1e-6)


def test_one_factor_for_all_weights_and_none_for_those_without_gradients():
    shapes = [(2, 3), (4,), (5,)]
    weights = [keras.Variable(np.full(s, 2.0, "float32")) for s in shapes]
    optimizer = RelativeClipSGD(0.1, 0.01, clip_factor=1.0)
    optimizer.build(weights)
    gradients = [np.full(s, 7.0, "float32") for s in shapes[:2]]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([*map(ops.convert_to_tensor, gradients), None])
    share = np.sqrt(2 * 0.01 / 0.1) * 2 / 7
    moved = (1 - 0.001) * 2 - 0.1 * share * 7
    for weight in weights[:2]:
        np.testing.assert_allclose(weight, np.full(weight.shape, moved), 1e-6)
    np.testing.assert_array_equal(weights[2], np.full(5, 2.0))


def test_rows_of_an_embedding_count_as_their_sum():
    table = keras.Variable(np.ones((4, 2), "float32"))
    rows = tf.IndexedSlices(
        tf.constant([[3.0, 0.0], [1.0, 0.0]]), tf.constant([2, 2]), (4, 2)
    )
    optimizer = RelativeClipSGD(1.0, 0.5)
    optimizer.build([table])
    scale = optimizer.clip_scale([tf.convert_to_tensor(rows)], [table])
    optimizer.apply([rows])
    expected = np.full((4, 2), 0.5)
    expected[2, 0] -= 4.0 * float(scale)
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_gradients_that_are_accumulated_are_clipped_as_one():
    def end(**options):
        weight = keras.Variable(START)
        optimizer = RelativeClipSGD(0.5, 0.01, **options)
        optimizer.build([weight])
        return weight, optimizer

    a, b = (np.float32(v) * START[::-1] for v in (9.0, -8.0))
    weight, optimizer = end(gradient_accumulation_steps=2)
    for gradient in (a, b):
        optimizer.apply([ops.convert_to_tensor(gradient)])
    expected, once = end()
    once.apply([ops.convert_to_tensor((a + b) / 2)])
    np.testing.assert_allclose(weight, expected, rtol=1e-6)


def model_of(optimizer, policy="float32", **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="encoder", dtype=policy)(inputs)
    x = keras.layers.LayerNormalization(
        center=False, scale=False, epsilon=1e-20, dtype=policy
    )(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="head")(x))
    model.compile(optimizer, "mse", **options)
    return model


X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = X[:, :1] * X[:, 1:2]


def two_optimizers():
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(0.01),
            {"encoder/.*": RelativeClipSGD(0.3, 0.01)},
        )
    )


def test_a_head_has_another_optimizer_and_the_encoder_has_no_slots(tmp_path):
    model = model_of(two_optimizers(), jit_compile=True)
    first = model.evaluate(X, Y, verbose=0)
    batches = tf.data.Dataset.from_tensors((X, Y)).repeat(20)
    model.fit(batches, verbose=0)
    assert model.evaluate(X, Y, verbose=0) < 0.8 * first
    names = {type(o).__name__: o for o in model.optimizer.optimizers}
    encoder = [v.name for v in names["RelativeClipSGD"].variables]
    assert encoder == ["iteration", "learning_rate"]
    assert len(names["Adam"].variables) == 2 + 2 * 2
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(X, Y, shuffle=False, verbose=0)
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_config_brings_it_back():
    optimizer = RelativeClipSGD(0.5, 0.02, clip_factor=None)
    config = optimizer.get_config()
    assert RelativeClipSGD.from_config(config).get_config() == config
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    kept = keras.optimizers.serialize(RelativeClipSGD(schedule, 0.02))
    again = keras.optimizers.deserialize(kept)
    assert type(again) is RelativeClipSGD and again.clip_factor == 2.0


def test_mixed_precision_trains_and_frozen_layers_stay():
    model = model_of(RelativeClipSGD(0.1, 0.01), "mixed_float16")
    model.get_layer("head").trainable = False
    kept = [w.numpy() for w in model.get_layer("head").weights]
    optimizer = keras.optimizers.LossScaleOptimizer(RelativeClipSGD(0.1, 0.01))
    model.compile(optimizer, "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    for before, after in zip(
        kept, model.get_layer("head").weights, strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.0}, "`weight_decay` must be positive"),
        ({"weight_decay": None}, "weight_decay=None"),
        ({"clip_factor": 0.5}, "clip_factor=0.5"),
        ({"clip_factor": float("nan")}, "clip_factor=nan"),
    ],
)
def test_errors_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        RelativeClipSGD(**settings)


def test_weights_without_decay_are_refused():
    with pytest.raises(ValueError, match="MultiOptimizer"):
        RelativeClipSGD().exclude_from_weight_decay(var_names=["bias"])


def test_several_replicas_are_refused(monkeypatch):
    place = "keras_moe.optimizers._relative_clip_sgd.num_replicas"
    monkeypatch.setattr(place, lambda: 2)
    with pytest.raises(RuntimeError, match="2 replicas"):
        run(START, rayleigh(), 1)
