import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe import layers
from keras_moe import ops
from tests.layers.layer_test_case import run_layer_test
from tests.reference import losses as reference_losses
from tests.reference import switch_moe

DIM = 6
METRICS = {
    "auxiliary_loss",
    "router_z_loss",
    "fraction_tokens_left_behind",
    "router_confidence",
    "expert_usage",
}


def make(num_experts=4, router=None, dim=DIM, hidden_dim=8, **kwargs):
    """A built layer whose router has opinions.

    The default router kernel is so small that gates are all alike.
    """
    router = {"kernel_initializer": "glorot_normal", **(router or {})}
    layer = layers.SparseMoE(
        num_experts,
        hidden_dim,
        router=layers.SwitchRouter(name="router", **router),
        **kwargs,
    )
    layer.build((None, None, dim))
    for weight in layer.weights:
        if "bias" in weight.path:
            weight.assign(np.random.normal(size=weight.shape))
    return layer


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def kernels(layer):
    experts = layer.experts
    found = {
        "router": layer.router.kernel.numpy(),
        "wi": experts.inner.kernel.numpy(),
        "wo": experts.outer.kernel.numpy(),
    }
    if layer.experts.gated:
        found["wi_gate"] = experts.gate.kernel.numpy()
    return found


def expert_inputs(layer, monkeypatch):
    """Records what the experts see."""
    seen = []
    original = layer.experts.call

    def call(inputs, **kwargs):
        seen.append(np.asarray(inputs))
        return original(inputs, **kwargs)

    monkeypatch.setattr(layer.experts, "call", call)
    return seen


# === What it computes ===


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 6),
    experts=st.integers(1, 4),
    gated=st.booleans(),
    padded=st.booleans(),
    group_size=st.sampled_from([None, 3]),
    factor=st.sampled_from([None, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(
    batch, length, experts, gated, padded, group_size, factor, seed
):
    rng = np.random.default_rng(seed)
    layer = make(
        experts,
        router={
            "eval_capacity_factor": factor,
            "min_expert_capacity": 1,
            "group_size": group_size,
        },
        gated=gated,
        activation="silu",
    )
    inputs = rng.normal(size=(batch, length, DIM)).astype("float32")
    mask = np.ones((batch, length), bool)
    if padded:
        mask = rng.random((batch, length)) < 0.6
    received = layer(inputs, mask=mask if padded else None)

    tokens, real = inputs.reshape(-1, DIM), mask.reshape(-1)
    size = group_size or len(tokens)
    missing = -len(tokens) % size
    tokens = np.pad(tokens, ((0, missing), (0, 0)))
    real = np.pad(real, (0, missing))
    capacity = None
    if factor is not None:
        capacity = ops.expert_capacity(size, experts, factor)
    expected = [
        switch_moe.switch_moe(
            tokens[start : start + size],
            capacity=capacity,
            mask=real[start : start + size],
            act=lambda x: x / (1 + np.exp(-x)),
            **kernels(layer),
        )
        for start in range(0, len(tokens), size)
    ]
    expected = np.concatenate(expected)[: batch * length]
    np.testing.assert_allclose(
        received, expected.reshape(inputs.shape), atol=1e-5
    )


@pytest.mark.parametrize("gated", [False, True])
def test_one_expert_is_a_feed_forward(gated):
    # The softmax over one expert is 1: nothing is left of the router.
    sparse = make(1, hidden_dim=16, gated=gated, activation="gelu")
    dense = layers.FeedForward(16, activation="gelu", gated=gated)
    inputs = data(2, 5)
    dense.build(inputs.shape)
    for mine, theirs in (("inner", "inner"), ("outer", "outer")) + (
        (("gate", "gate"),) if gated else ()
    ):
        kernel = getattr(sparse.experts, mine).kernel[0]
        getattr(dense, theirs).kernel.assign(kernel)
    np.testing.assert_allclose(sparse(inputs), dense(inputs), atol=1e-6)


def test_biases_are_each_experts_own():
    layer = make(3, use_bias=True)
    inputs = data(1, 7)
    tokens = inputs[0].astype("float64")
    w, experts = kernels(layer), layer.experts
    logits = tokens @ w["router"]
    for token, seat in zip(tokens, switch_moe.route_group(logits), strict=True):
        e = seat.expert
        hidden = token @ w["wi"][e] + experts.inner.bias.numpy()[e]
        out = np.maximum(hidden[0], 0) @ w["wo"][e]
        out = seat.gate * (out + experts.outer.bias.numpy()[e])
        np.testing.assert_allclose(
            layer(inputs)[0, seat.token], out[0], atol=1e-5
        )


def test_dropped_tokens_come_out_as_exactly_zero():
    layer = make(
        2,
        router={"eval_capacity_factor": 0.5, "min_expert_capacity": 1},
        use_bias=True,
    )
    inputs = data(1, 12)
    logits = inputs[0] @ kernels(layer)["router"]
    kept = {seat.token for seat in switch_moe.route_group(logits, 3)}
    assert 0 < len(kept) <= 6
    outputs = np.asarray(layer(inputs))[0]
    for token in range(12):
        assert np.any(outputs[token]) == (token in kept)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4)])
def test_any_rank(shape):
    layer = make()
    inputs = data(*shape)
    flat = layer(inputs.reshape(1, -1, DIM))
    np.testing.assert_allclose(
        layer(inputs), np.reshape(flat, inputs.shape), atol=1e-6
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (2, 0)])
@pytest.mark.parametrize("group_size", [None, 3])
def test_empty_batch(shape, training, group_size):
    layer = make(router={"group_size": group_size})
    assert layer(data(*shape), training=training).shape == (*shape, DIM)
    assert all(np.isfinite(loss) for loss in layer.losses)


def test_gradients_equal_finite_differences():
    layer = make(3, router={"eval_capacity_factor": 0.7}, activation="tanh")
    inputs = data(2, 4)
    upstream = data(2, 4)

    def loss(x):
        return tf.reduce_sum(layer(x) * upstream)

    with tf.GradientTape() as tape:
        x = tf.constant(inputs)
        tape.watch(x)
        value = loss(x)
    variables = [v.value for v in layer.trainable_weights]
    gradients = tape.gradient(value, [x, *variables])
    assert all(g is not None for g in gradients)
    step = 1e-2
    for variable, gradient in zip(
        layer.trainable_weights, gradients[1:], strict=True
    ):
        direction = np.random.normal(size=variable.shape).astype("float32")
        start = variable.numpy()
        variable.assign(start + step * direction)
        above = float(loss(x))
        variable.assign(start - step * direction)
        below = float(loss(x))
        variable.assign(start)
        slope = float(tf.reduce_sum(gradient * direction))
        assert (above - below) / (2 * step) == pytest.approx(
            slope, rel=0.03, abs=0.03
        ), variable.path


def test_the_task_alone_teaches_the_router():
    layer = make(router={"load_balancing_loss_weight": 0.0})
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(data(2, 8), training=True)))
    gradient = tape.gradient(loss, layer.router.kernel.value)
    assert np.any(gradient)


# === Padding ===


@given(
    poison=st.sampled_from([0.0, 1e30, -1e30, np.inf, np.nan]),
    extra=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing(poison, extra, seed):
    rng = np.random.default_rng(seed)
    layer = make(
        3,
        router={
            "jitter_noise": 0.0,
            "capacity_factor": None,
            "load_balancing_loss_weight": 1.0,
            "router_z_loss_weight": 1.0,
        },
    )
    real = rng.normal(size=(2, 4, DIM)).astype("float32")
    lengths = rng.integers(0, 5, 2)
    mask = np.arange(4 + extra)[None] < lengths[:, None]
    padded = np.pad(real, ((0, 0), (0, extra), (0, 0)))
    padded = np.where(mask[..., None], padded, poison).astype("float32")
    alone = real.reshape(-1, DIM)[mask[:, :4].reshape(-1)][None]

    def run(inputs, mask):
        for metric in layer.metrics:
            metric.reset_state()
        with tf.GradientTape() as tape:
            x = tf.constant(inputs)
            tape.watch(x)
            outputs = layer(x, mask=mask, training=True)
            losses = list(layer.losses)
            total = tf.reduce_sum(tf.square(outputs)) + sum(losses)
        metrics = {m.name: float(m.result()) for m in layer.metrics}
        weights = [v.value for v in layer.trainable_weights]
        return outputs, losses, metrics, tape.gradient(total, [x, *weights])

    outputs, losses, metrics, gradients = run(padded, mask)
    assert not np.any(np.asarray(outputs)[~mask])
    assert not np.any(np.asarray(gradients[0])[~mask])
    expected, want_losses, want_metrics, want_gradients = run(alone, None)
    np.testing.assert_allclose(
        np.asarray(outputs)[mask], expected[0], atol=1e-5
    )
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4, atol=1e-6)
    assert metrics == pytest.approx(want_metrics, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(
        np.asarray(gradients[0])[mask], want_gradients[0][0], atol=1e-4
    )
    for mine, theirs in zip(gradients[1:], want_gradients[1:], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_padding_takes_no_capacity():
    # Capacity follows from the shape; who takes it, from the real tokens.
    layer = make(
        1, router={"eval_capacity_factor": 0.5, "min_expert_capacity": 1}
    )
    inputs = data(1, 8)
    mask = np.array([[0, 0, 0, 0, 1, 1, 1, 1]], bool)
    outputs = np.asarray(layer(inputs, mask=mask))[0]
    assert np.all(np.any(outputs[4:], axis=-1))
    assert not np.any(outputs[:4])


def test_losses_are_those_of_the_real_tokens():
    layer = make(
        3,
        router={
            "load_balancing_loss_weight": 0.5,
            "router_z_loss_weight": 0.25,
            "group_size": 4,
        },
    )
    inputs, mask = data(2, 5), np.random.random((2, 5)) < 0.7
    layer(inputs, mask=mask)
    tokens = np.pad(inputs.reshape(-1, DIM), ((0, 2), (0, 0)))
    logits = (tokens @ kernels(layer)["router"]).reshape(3, 4, 3)
    real = np.pad(mask.reshape(-1), (0, 2)).reshape(3, 4)
    probabilities = tf.nn.softmax(logits).numpy()
    np.testing.assert_allclose(
        layer.losses,
        [
            0.5 * reference_losses.load_balancing(probabilities, real),
            0.25 * reference_losses.router_z(logits, real),
        ],
        rtol=1e-4,
    )


def test_keras_masks_arrive_and_pass_on():
    seen = []

    class Probe(keras.layers.Layer):
        supports_masking = True

        def call(self, inputs, mask=None):
            seen.append(mask)
            return inputs

    moe = make()
    embedding = keras.layers.Embedding(9, DIM, mask_zero=True)
    model = keras.Sequential([embedding, moe, Probe()])
    ids = np.array([[3, 4, 0, 0], [5, 0, 0, 0]])
    seen.clear()
    outputs = model(ids)
    np.testing.assert_array_equal(seen[-1], ids != 0)
    assert not np.any(np.asarray(outputs)[ids == 0])
    np.testing.assert_allclose(
        outputs, moe(embedding(ids), mask=ids != 0), atol=1e-6
    )


# === Training and evaluation ===


def test_jitter_is_for_the_router_in_training_alone(monkeypatch):
    layer = make(
        2,
        router={"jitter_noise": 0.5, "capacity_factor": None},
    )
    inputs = data(1, 16)
    seen = expert_inputs(layer, monkeypatch)

    def rows(slots):
        slots = slots.reshape(-1, DIM)
        slots = slots[np.any(slots, axis=-1)]
        return slots[np.lexsort(slots.T)]

    outputs = [np.asarray(layer(inputs, training=True)) for _ in range(2)]
    assert not np.array_equal(*outputs)  # the gates differ
    for slots in seen:  # and the experts see the very tokens
        np.testing.assert_array_equal(rows(slots), rows(inputs))
    evaluated = [np.asarray(layer(inputs)) for _ in range(2)]
    np.testing.assert_array_equal(*evaluated)


def test_jitter_is_uniform_and_drawn_for_each_element():
    router = layers.SwitchRouter(
        2, jitter_noise=0.25, kernel_initializer="ones", seed=3
    )
    router.build((None, None, 1))
    inputs = np.ones((1, 4000, 1), "float32")
    noise = np.asarray(router.logits(inputs, training=True))[0, :, 0]
    assert noise.min() >= 0.75 and noise.max() <= 1.25
    # Standard error of the mean: 0.5 / sqrt(12 * 4000) = 0.0023.
    assert noise.mean() == pytest.approx(1.0, abs=5 * 0.0023)
    assert noise.std() == pytest.approx(0.5 / 12**0.5, rel=0.05)
    assert len(np.unique(noise)) > 3900


def test_jitter_follows_the_seed():
    def draw():
        router = layers.SwitchRouter(
            2, jitter_noise=0.1, kernel_initializer="ones", seed=7
        )
        router.build((None, None, DIM))
        return np.asarray(router.logits(np.ones((1, 3, DIM)), training=True))

    np.testing.assert_array_equal(draw(), draw())


@given(seed=st.integers(0, 99), row=st.integers(0, 3))
@settings(max_examples=10)
def test_evaluation_does_not_look_at_the_neighbours(seed, row):
    rng = np.random.default_rng(seed)
    layer = make(4)
    inputs = rng.normal(size=(4, 5, DIM)).astype("float32")
    # The neighbours all crowd into the row's first token's expert.
    crowd = np.tile(inputs[row, :1], (4, 5, 1))
    crowd[row] = inputs[row]
    alone = layer(inputs[row : row + 1])
    for batch in (inputs, crowd):
        np.testing.assert_allclose(layer(batch)[row], alone[0], atol=1e-6)


def test_dropout_of_experts_is_their_own_and_for_training():
    plain = make(2, router={"jitter_noise": 0.0, "capacity_factor": None})
    dropping = make(
        2,
        router={"jitter_noise": 0.0, "capacity_factor": None},
        expert_dropout_rate=0.5,
        hidden_dim=8,
    )
    for mine, theirs in zip(dropping.weights, plain.weights, strict=False):
        mine.assign(theirs)
    inputs = data(2, 6)
    np.testing.assert_allclose(dropping(inputs), plain(inputs), atol=1e-6)
    first = np.asarray(dropping(inputs, training=True))
    second = np.asarray(dropping(inputs, training=True))
    assert not np.allclose(first, second)
    # Inside the experts: means over many draws return to the whole, which a
    # nonlinearity after the dropout would not allow.
    many = np.mean(
        [np.asarray(dropping(inputs, training=True)) for _ in range(200)], 0
    )
    scale = np.abs(np.asarray(plain(inputs))).mean()
    assert np.abs(many - plain(inputs)).mean() < 0.2 * scale


@pytest.mark.parametrize(
    ("router", "training", "slots"),
    [
        ({"capacity_factor": 1.0, "min_expert_capacity": 1}, True, 5),
        ({"capacity_factor": 1.3, "min_expert_capacity": 1}, True, 7),
        (
            {
                "capacity_factor": 1.3,
                "min_expert_capacity": 1,
                "capacity_rounding": "truncate",
            },
            True,
            6,
        ),
        (
            {
                "capacity_factor": 1.3,
                "min_expert_capacity": 1,
                "capacity_rounding": "nearest",
            },
            True,
            6,
        ),
        ({"capacity_factor": 0.1}, True, 4),  # the default minimum
        ({"capacity_factor": 0.1, "min_expert_capacity": 7}, True, 7),
        ({"eval_capacity_factor": 2.0}, False, 10),
        ({"capacity_factor": 0.1, "eval_capacity_factor": 2.0}, False, 10),
        ({"capacity_factor": 100.0}, True, 20),
        ({"group_size": 10, "capacity_factor": 2.0}, True, 5),
    ],
)
def test_capacity(router, training, slots, monkeypatch):
    layer = make(4, router=router)
    seen = expert_inputs(layer, monkeypatch)
    layer(data(2, 10), training=training)
    groups = 2 if "group_size" in router else 1
    assert seen[0].shape == (groups, 4, slots, DIM)


def test_metrics_of_a_batch():
    layer = make(
        3,
        router={"eval_capacity_factor": 0.4, "min_expert_capacity": 1},
        name="moe",
    )
    inputs, mask = data(2, 9), np.random.random((2, 9)) < 0.8
    layer(inputs, mask=mask)
    logits = (inputs.reshape(-1, DIM) @ kernels(layer)["router"])[None]
    real = mask.reshape(1, -1)
    expected = switch_moe.statistics(
        logits, ops.expert_capacity(18, 3, 0.4), real
    )
    expected["auxiliary_loss"] = reference_losses.load_balancing(
        tf.nn.softmax(logits).numpy(), real
    )
    expected["router_z_loss"] = reference_losses.router_z(logits, real)
    received = {m.name: float(m.result()) for m in layer.metrics}
    assert received == pytest.approx(
        {f"moe/{name}": value for name, value in expected.items()}, rel=1e-4
    )
    assert expected["fraction_tokens_left_behind"] > 0


def small_model(**kwargs):
    inputs = keras.Input((None, DIM))
    x = layers.SparseMoE(4, 8, name="first", **kwargs)(inputs)
    x = layers.SparseMoE(4, 8, name="second")(inputs + x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("jit", [False, True])
def test_fit_logs_metrics_and_adds_losses(jit):
    model = small_model()
    model.compile("sgd", "mse", jit_compile=jit)
    x = data(8, 5)
    history = model.fit(x, x, batch_size=4, epochs=2, verbose=0).history
    for name in METRICS:
        for layer in ("first", "second"):
            assert np.all(np.isfinite(history[f"{layer}/{name}"]))
    for layer in ("first", "second"):
        assert 0 < history[f"{layer}/router_confidence"][-1] <= 1
        assert 1 - 1e-3 <= history[f"{layer}/auxiliary_loss"][-1] <= 4
    # Four losses, two a layer, are in the sum.
    logs = model.evaluate(x, x, verbose=0, return_dict=True)
    mse = np.mean((np.asarray(model(x)) - x) ** 2)
    added = sum(
        0.01 * logs[f"{layer}/auxiliary_loss"]
        + 0.001 * logs[f"{layer}/router_z_loss"]
        for layer in ("first", "second")
    )
    assert logs["loss"] == pytest.approx(mse + added, rel=1e-3)


def test_any_batch_and_any_length():
    model = small_model()
    layer_by_layer = [model.get_layer("first"), model.get_layer("second")]
    for shape in ((1, 1), (3, 7), (5, 2)):
        x = data(*shape)
        for received in (model.predict(x, verbose=0), model(x)):
            y = x + layer_by_layer[0](x)
            np.testing.assert_allclose(
                received, layer_by_layer[1](y), atol=1e-5
            )


def test_a_partial_last_batch_trains():
    model = small_model(router=layers.SwitchRouter(group_size=4))
    model.compile("sgd", "mse", jit_compile=False)
    x = data(5, 3)
    model.fit(x, x, batch_size=2, verbose=0)


# === Precision ===


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_router_stays_in_float32(policy, monkeypatch):
    layer = make(4, dtype=policy)
    assert layer.router.compute_dtype == "float32"
    assert layer.router.kernel.dtype == "float32"
    assert layer.experts.compute_dtype == layer.compute_dtype
    plans = []
    original = layer.router.route

    def route(logits, *args, **kwargs):
        assert logits.dtype == "float32"
        plans.append(original(logits, *args, **kwargs))
        return plans[-1]

    monkeypatch.setattr(layer.router, "route", route)
    inputs = data(2, 6)
    outputs = layer(inputs)
    assert outputs.dtype == layer.compute_dtype
    assert plans[0].probabilities.dtype == "float32"
    assert all(loss.dtype == "float32" for loss in layer.losses)
    exact = make(4)
    for mine, theirs in zip(exact.weights, layer.weights, strict=False):
        mine.assign(theirs)
    rounded = keras.ops.cast(
        keras.ops.cast(inputs, layer.compute_dtype), "float32"
    )
    np.testing.assert_allclose(
        plans[0].probabilities,
        exact.router(np.reshape(rounded, (1, 12, DIM))).probabilities,
        atol=1e-6,
    )
    error = np.abs(keras.ops.cast(outputs, "float32") - exact(rounded))
    assert error.max() < 0.05 * np.abs(exact(rounded)).max()


def test_a_model_in_pure_bfloat16_routes_in_float32():
    layer = make(4, dtype="bfloat16")
    assert layer.router.kernel.dtype == "float32"
    assert layer(data(1, 4)).dtype == "bfloat16"


# === Saving ===


def test_keras_layer_contract():
    for kwargs in (
        {},
        {"gated": True, "use_bias": True, "expert_dropout_rate": 0.1},
    ):
        run_layer_test(
            layers.SparseMoE,
            {"num_experts": 3, "hidden_dim": 8, **kwargs},
            input_shape=(2, 5, 4),
            expected_output_shape=(2, 5, 4),
            expected_num_losses=2,
            supports_masking=True,
        )


def test_keras_file_round_trip(tmp_path):
    router = layers.SwitchRouter(
        capacity_factor=2.0,
        eval_capacity_factor=1.5,
        min_expert_capacity=2,
        capacity_rounding="nearest",
        group_size=3,
        jitter_noise=0.05,
        load_balancing_loss_weight=0.1,
        router_z_loss_weight=0.2,
        kernel_initializer="he_normal",
        seed=5,
        name="mine",
    )
    model = small_model(
        router=router,
        activation="gelu",
        gated=True,
        use_bias=True,
        expert_dropout_rate=0.2,
        kernel_initializer="he_uniform",
        bias_initializer="ones",
    )
    model.compile("adam", "mse", jit_compile=False)
    x = data(4, 3)
    model.fit(x, x, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(x), model(x))
    first = loaded.get_layer("first")
    assert first.get_config() == model.get_layer("first").get_config()
    assert first.router.get_config()["seed"] == 5
    assert first.router.get_config() == router.get_config()
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    loaded.fit(x, x, verbose=0)


@keras.saving.register_keras_serializable("keras_moe_tests")
class HalvingRouter(layers.SwitchRouter):
    """A router from outside, with an argument of its own."""

    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def route(self, logits, padding_mask=None, training=None):
        return super().route(logits / self.temperature, padding_mask, training)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def test_a_router_of_ones_own_survives(tmp_path):
    model = small_model(router=HalvingRouter(temperature=0.5))
    x = data(2, 3)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert isinstance(loaded.get_layer("first").router, HalvingRouter)
    assert loaded.get_layer("first").router.temperature == 0.5
    np.testing.assert_array_equal(loaded(x), model(x))


def test_weights_file_round_trip(tmp_path):
    one, other = small_model(), small_model()
    path = tmp_path / "x.weights.h5"
    one.save_weights(path)
    other.load_weights(path)
    x = data(2, 3)
    np.testing.assert_array_equal(one(x), other(x))


def test_clone_model():
    model = small_model(router=HalvingRouter(temperature=0.5))
    clone = keras.models.clone_model(model)
    mine = clone.get_layer("first").router
    assert mine.temperature == 0.5
    assert mine is not model.get_layer("first").router
    clone.set_weights(model.get_weights())
    x = data(2, 3)
    np.testing.assert_array_equal(clone(x), model(x))


def test_saved_model_serves_any_shape(tmp_path):
    model = small_model()
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    for shape in ((1, 1), (3, 4)):
        x = data(*shape)
        np.testing.assert_allclose(served.serve(x), model(x), atol=1e-5)


# === Initialisation ===


@pytest.mark.parametrize("gated", [False, True])
def test_each_expert_starts_with_its_own_fan(gated):
    experts, dim, hidden = 8, 64, 96
    layer = make(experts, dim=dim, hidden_dim=hidden, gated=gated)
    banks = [(layer.experts.inner, dim), (layer.experts.outer, hidden)]
    if gated:
        banks.append((layer.experts.gate, dim))
    for bank, fan_in in banks:
        kernel = bank.kernel.numpy()
        expected = np.sqrt(0.1 / fan_in)
        # Of n normal draws the standard deviation is known to 1 / sqrt(2 n);
        # five of those, for each of 6144 values.
        n = kernel[0].size
        for expert in kernel:
            assert expert.std() == pytest.approx(
                expected, rel=5 / np.sqrt(2 * n)
            )
        for i in range(experts):
            for j in range(i):
                both = np.corrcoef(kernel[i].ravel(), kernel[j].ravel())
                assert abs(both[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize(
    "name", ["glorot_uniform", "he_normal", "lecun_uniform"]
)
def test_named_initializers_have_one_experts_fan(name):
    layer = make(16, dim=48, hidden_dim=80, kernel_initializer=name)
    one = keras.initializers.get(name)(shape=(48, 80))
    for expert in layer.experts.inner.kernel.numpy():
        assert expert.std() == pytest.approx(np.std(one), rel=0.08)


def test_other_initializers_are_left_alone():
    layer = make(2, kernel_initializer="ones")
    assert np.all(layer.experts.inner.kernel.numpy() == 1)


def test_a_seeded_initializer_still_tells_experts_apart():
    layer = make(
        3,
        dim=8,
        hidden_dim=8,
        kernel_initializer=keras.initializers.HeNormal(seed=1),
    )
    kernel = layer.experts.inner.kernel.numpy()
    assert not np.allclose(kernel[0], kernel[1])


# === Errors ===


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 0}, "`num_experts`.*num_experts=0"),
        ({"hidden_dim": 0}, "`hidden_dim`.*hidden_dim=0"),
        ({"router": "swich"}, "`router`.*switch.*'swich'"),
        ({"router": 3}, "`router`.*router=3"),
        ({"router": layers.SwitchRouter(5)}, "num_experts=4.*num_experts=5"),
        ({"dispatch": "scatter"}, "`dispatch`.*gather.*'scatter'"),
        ({"expert_dropout_rate": 1.0}, "expert_dropout_rate=1.0"),
        ({"expert_dropout_rate": -0.1}, "expert_dropout_rate=-0.1"),
        ({"activation": "rleu"}, "rleu"),
        ({"kernel_initializer": "he_norml"}, "he_norml"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.SparseMoE(**{"num_experts": 4, "hidden_dim": 8, **arguments})


def test_refuses_an_unknown_last_axis():
    with pytest.raises(ValueError, match="static last axis"):
        layers.SparseMoE(4, 8).build((None, None, None))
    with pytest.raises(ValueError, match="static last axis"):
        layers.SparseMoE(4, 8).build((None,))


def test_two_layers_do_not_share_a_router():
    router = layers.SwitchRouter()
    first = layers.SparseMoE(4, 8, router=router)
    second = layers.SparseMoE(4, 8, router=router)
    first.build((None, None, DIM))
    with pytest.raises(ValueError, match="`router` must not be built"):
        second.build((None, None, DIM))


@pytest.mark.parametrize("shape", [(5, 2), (2, 4), (2, 1), (2,), (2, 5, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    layer = layers.SparseMoE(4, 8)
    with pytest.raises(ValueError, match=r"`mask` must have the shape.*\(2, 5"):
        layer(np.zeros((2, 5, 8), "float32"), mask=np.ones(shape, bool))


def test_an_additive_mask_is_refused():
    layer = layers.SparseMoE(4, 8)
    with pytest.raises(ValueError, match="`mask` must be boolean.*float32"):
        layer(
            np.zeros((2, 5, 8), "float32"),
            mask=np.zeros((2, 5), "float32"),
        )


def test_another_dimension_after_building_is_refused():
    layer = layers.SparseMoE(4, 8)
    layer(np.zeros((2, 5, 8), "float32"))
    with pytest.raises(ValueError, match="axis -1"):
        layer(np.zeros((2, 5, 9), "float32"))
