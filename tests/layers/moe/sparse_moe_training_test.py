import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe import ops
from keras_moe.training._build_state import build_optimizer
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import METRICS
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import expert_inputs
from tests.layers.moe.sparse_moe_case import kernels
from tests.layers.moe.sparse_moe_case import make
from tests.layers.moe.sparse_moe_case import small_model
from tests.reference import losses as reference_losses
from tests.reference import routing_statistics
from tests.reference import top_k


def test_jitter_is_for_the_router_in_training_alone(monkeypatch):
    layer = make(
        2,
        router={"jitter_noise": 0.5, "capacity_factor": None},
        dispatch="gather",
    )
    inputs = data(1, 16)
    seen = expert_inputs(layer, monkeypatch)

    def rows(slots):
        slots = slots.reshape(-1, DIM)
        slots = slots[np.any(slots, axis=-1)]
        return slots[np.lexsort(slots.T)]

    outputs = [np.asarray(layer(inputs, training=True)) for _ in range(2)]
    assert not np.array_equal(*outputs)  # the gates differ
    assert len(seen) == 2
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


@pytest.mark.parametrize("dispatch", ["gather", "ragged"])
def test_dropout_of_experts_is_their_own_and_for_training(dispatch):
    plain = make(2, router={"jitter_noise": 0.0, "capacity_factor": None})
    dropping = make(
        2,
        router={"jitter_noise": 0.0, "capacity_factor": None},
        expert_dropout_rate=0.5,
        hidden_dim=8,
        dispatch=dispatch,
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
    copies = np.tile(inputs, (200, 1, 1))
    many = np.asarray(dropping(copies, training=True))
    many = many.reshape(200, *inputs.shape).mean(0)
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
    layer = make(4, router=router, dispatch="gather")
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
    capacity = ops.expert_capacity(18, 3, 0.4)
    seats, asks = top_k.route(logits[0], 1, capacity, real[0])
    expected = routing_statistics.statistics([seats], logits, capacity, real)
    expected["expert_load_cv"] = routing_statistics.variation(
        routing_statistics.load(asks, 3)
    )
    expected["auxiliary_loss"] = reference_losses.load_balancing(
        tf.nn.softmax(logits).numpy(), real
    )
    expected["router_z_loss"] = reference_losses.router_z(logits, real)
    received = {m.name: float(m.result()) for m in layer.router.metrics}
    assert received == pytest.approx(
        {f"moe/{name}": value for name, value in expected.items()}, rel=1e-4
    )
    assert expected["fraction_tokens_left_behind"] > 0


# In a graph, by default, the partial batch below.
@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        pytest.param({"jit_compile": False}, marks=pytest.mark.large),
        pytest.param({"jit_compile": True}, marks=pytest.mark.large),
    ],
)
def test_fit_logs_metrics_and_adds_losses(options):
    model = small_model(router=layers.SwitchRouter())
    model.compile("sgd", "mse", **options)
    build_optimizer(model)  # or Keras traces the step twice
    x = data(8, 5)
    history = model.fit(x, x, batch_size=4, epochs=2, verbose=0).history
    for name in METRICS:
        for layer in ("first", "second"):
            assert np.all(np.isfinite(history[f"{layer}/{name}"]))
    for layer in ("first", "second"):
        assert 0 < history[f"{layer}/router_confidence"][-1] <= 1
        assert 1 - 1e-3 <= history[f"{layer}/auxiliary_loss"][-1] <= 4
    # Three losses are in the sum: "switch" by its name has no z-loss.
    logs = model.evaluate(x, x, verbose=0, return_dict=True)
    mse = np.mean((np.asarray(model(x)) - x) ** 2)
    added = 0.01 * sum(
        logs[f"{layer}/auxiliary_loss"] for layer in ("first", "second")
    )
    added += 0.001 * logs["first/router_z_loss"]
    assert logs["loss"] == pytest.approx(mse + added, rel=1e-3)


# In a graph, by default, in sparse_moe_executors_test.py.
def test_any_batch_and_any_length(run_eagerly):
    model = small_model()
    model.run_eagerly = run_eagerly
    model.jit_compile = False  # or each shape is compiled
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
    build_optimizer(model)  # or Keras traces the step twice
    x = data(5, 3)
    model.fit(x, x, batch_size=2, verbose=0)


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
