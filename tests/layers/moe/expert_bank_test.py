"""int8 and LoRA on the banks of experts, under every executor."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe import layers
from keras_moe.keras_internals import stored_kernel
from keras_moe.training._build_state import build_optimizer
from tests.covering import covering

DIM, HIDDEN, EXPERTS = 8, 16, 4
DISPATCH = ("einsum", "gather", "ragged")
STATES = ("float", "int8", "lora", "int8, lora", "lora, int8")


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def banks(layer):
    experts = layer.experts
    return [
        getattr(experts, name)
        for name in ("inner", "gate", "outer")
        if hasattr(experts, name)
    ]


def make(dispatch="auto", state="float", k=2, dtype=None, **router):
    """A layer; equal for equal arguments, whatever its executor."""
    keras.utils.set_random_seed(7)
    layer = layers.SparseMoE(
        EXPERTS,
        HIDDEN,
        router=layers.TopKRouter(
            num_selected_experts=k,
            jitter_noise=0.0,
            kernel_initializer=keras.initializers.RandomNormal(seed=1),
            name="router",
            **router,
        ),
        activation="gelu",
        dispatch=dispatch,
        gated=True,
        use_bias=True,
        kernel_initializer="glorot_normal",
        bias_initializer="normal",
        dtype=dtype,
        name="moe",
    )
    layer.build((None, None, DIM))
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    for change in state.split(", "):
        if change == "int8":
            layer.quantize("int8")
        if change == "lora":
            layer.enable_lora(2, lora_alpha=3)
            for bank in banks(layer):
                factor = bank.lora_kernel_b
                factor.assign(rng.normal(size=factor.shape, scale=0.3))
    return layer


def gradients(layer, x, **kwargs):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **kwargs)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
    variables = [v.value for v in layer.trainable_weights]
    return y, tape.gradient(loss, [x, *variables])


# By default the two changes together, in either order, stand for each alone.
@pytest.mark.parametrize(
    ("state", "capacity_factor"),
    [
        ("float", 0.5),
        ("int8, lora", 0.5),
        ("lora, int8", None),
        *(
            pytest.param(state, factor, marks=pytest.mark.large)
            for state in STATES
            for factor in (None, 0.5)
            if (state, factor)
            not in (("float", 0.5), ("int8, lora", 0.5), ("lora, int8", None))
        ),
    ],
)
def test_executors_agree(state, capacity_factor):
    x = data(2, 11)
    mask = np.arange(11) < np.array([[11], [6]])
    received = {}
    for dispatch in DISPATCH:
        layer = make(dispatch, state, capacity_factor=capacity_factor)
        y, slopes = gradients(layer, x, mask=mask, training=True)
        received[dispatch] = [y, *slopes]
        assert all(slope is not None for slope in slopes)
    paths = ["output", "inputs", *(w.path for w in layer.trainable_weights)]
    for dispatch in DISPATCH[1:]:
        for path, value, expected in zip(
            paths, received[dispatch], received["einsum"], strict=True
        ):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                value, expected, rtol=1e-5, atol=1e-5 * scale, err_msg=path
            )


# By default each state in float32, above, and both kinds of change here; plain
# experts in sparse_moe_executors_test.py.
@pytest.mark.parametrize(
    "state",
    [
        each
        if each == "int8, lora"
        else pytest.param(each, marks=pytest.mark.large)
        for each in STATES
    ],
)
def test_executors_agree_in_low_precision(state):
    x = data(2, 9)
    received = [
        ops.convert_to_numpy(
            ops.cast(make(d, state, dtype="mixed_bfloat16")(x), "float32")
        )
        for d in DISPATCH
    ]
    # bfloat16 has eight bits: sums in another order differ in the last.
    for other in received[1:]:
        np.testing.assert_allclose(
            other, received[0], atol=2**-7 * np.abs(received[0]).max()
        )


@pytest.mark.parametrize("state", STATES)
def test_it_is_what_one_network_computes(state):
    """One expert, all gates one: the layer is a feed-forward network."""
    layer = make("gather", state)
    x = data(3, 5)
    slots = np.broadcast_to(x.reshape(1, 1, 15, DIM), (1, EXPERTS, 15, DIM))
    each = np.asarray(layer.experts(slots))[0]  # [e, n, d]
    plan = layer.router(x.reshape(1, 15, DIM))
    gates = np.asarray(plan.combine_array()).sum(axis=-1)[0]  # [n, e]
    np.testing.assert_allclose(
        ops.reshape(layer(x), (15, DIM)),
        np.einsum("ne,end->nd", gates, each),
        atol=1e-5,
    )


@pytest.mark.parametrize("dispatch", DISPATCH)
def test_int8_is_near(dispatch):
    x = data(4, 10)
    exact = np.asarray(make(dispatch)(x))
    rough = np.asarray(make(dispatch, "int8")(x))
    # Half a step in 127 for kernels and activations of two linear layers.
    assert np.abs(rough - exact).max() < 0.03 * np.abs(exact).max()
    assert not np.array_equal(rough, exact)


def test_routers_stay_float32_and_nothing_warns():
    layer = make()
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, layer(inputs))
    with pytest.warns(UserWarning) as caught:
        model.quantize("int8")
    assert not any("Router" in str(w.message) for w in caught)
    assert {w.dtype for w in layer.router.weights} == {"float32"}
    assert layer.router.quantization_mode is None
    for bank in banks(layer):
        assert bank.quantization_mode == "int8"
        assert stored_kernel(bank).dtype == "int8"
        # A scale for each expert and output.
        assert bank.kernel_scale.shape[1::2] == stored_kernel(bank).shape[::2]


@pytest.mark.parametrize("dispatch", DISPATCH)
def test_int8_keeps_rows_apart(dispatch):
    layer = make(dispatch, "int8")
    x = data(3, 5)
    loud = np.concatenate([x[:1], 1000 * x[1:]])
    np.testing.assert_allclose(layer(loud)[:1], layer(x)[:1], atol=1e-6)


@pytest.mark.parametrize(
    ("dispatch", "state"),
    covering(DISPATCH, ["int8", "int8, lora"], strength=1),
)
def test_int8_takes_a_batch_of_padding(dispatch, state):
    layer = make(dispatch, state)
    x = data(2, 3)
    y = layer(x, mask=np.zeros((2, 3), bool))
    np.testing.assert_array_equal(y, np.zeros_like(x))


@pytest.mark.parametrize(
    ("dispatch", "state"),
    covering(DISPATCH, ["float", "int8"], strength=1),
)
def test_lora_begins_where_the_layer_was(dispatch, state):
    layer = make(dispatch, state)
    x = data(2, 5)
    before = np.asarray(layer(x))
    layer.enable_lora(2)
    np.testing.assert_allclose(layer(x), before, atol=1e-6)


@pytest.mark.parametrize(
    ("dispatch", "state"),
    covering(DISPATCH, ["lora", "int8, lora"], strength=1),
)
def test_lora_trains_its_factors_and_no_kernel(dispatch, state, run_eagerly):
    layer = make(dispatch, state)
    trained = {w.path.split("/")[-1] for w in layer.experts.trainable_weights}
    assert trained == {"bias", "lora_kernel_a", "lora_kernel_b"}
    before = {w.path: np.asarray(w) for w in layer.experts.weights}
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, layer(inputs))
    model.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        jit_compile=False,
        run_eagerly=run_eagerly,
    )
    build_optimizer(model)  # or Keras traces the step twice
    x = data(16, 5)
    model.fit(x, 2 * x, verbose=0)
    for weight in layer.experts.weights:
        same = np.array_equal(before[weight.path], weight)
        assert same == (weight.path.split("/")[-1] not in trained)


def test_lora_is_enabled_once_on_a_built_layer():
    layer = make(state="lora")
    with pytest.raises(ValueError, match="already enabled"):
        layer.enable_lora(2)
    with pytest.raises(ValueError, match="built"):
        layers.SparseMoE(2, 4).enable_lora(2)
    with pytest.raises(ValueError, match="`rank` must be a positive"):
        make().enable_lora(0)


@pytest.mark.parametrize(
    ("dispatch", "state"), covering(DISPATCH, STATES, strength=1)
)
def test_saving(tmp_path, dispatch, state):
    layer = make(dispatch, state)
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, layer(inputs))
    x = data(2, 5)
    expected = np.asarray(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.get_layer("moe")
    assert again.dispatch == dispatch
    for bank in banks(again):
        assert bank.quantization_mode == ("int8" if "int8" in state else None)
        # Keras saves the sum of kernel and LoRA.
        assert not bank.lora_enabled
    atol = 1e-5
    if state in ("int8, lora", "lora, int8"):
        # ... rounded to int8 again: half a step in 127, twice.
        atol = 0.03 * np.abs(expected).max()
    np.testing.assert_allclose(loaded(x), expected, atol=atol)
    loaded.save(tmp_path / "again.keras")
    twice = keras.saving.load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(twice(x), loaded(x), atol=1e-6)


@pytest.mark.parametrize(
    ("dispatch", "state"),
    [
        ("gather", "int8, lora"),
        pytest.param("ragged", "int8", marks=pytest.mark.large),
        pytest.param("einsum", "int8", marks=pytest.mark.large),
    ],
)
def test_export(tmp_path, dispatch, state):
    layer = make(dispatch, state)
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, layer(inputs))
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    for shape in ((2, 5), (1, 1)):
        x = data(*shape)
        np.testing.assert_allclose(served.serve(x), model(x), atol=1e-5)
