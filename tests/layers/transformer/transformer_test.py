import keras
import numpy as np
import pytest

from keras_moe import layers
from tests.layers.layer_test_case import run_layer_test

DIM = 8


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def attention():
    return layers.T5Attention(2, 4, name="attention")


def test_feed_forward_contract():
    run_layer_test(
        layers.FeedForward,
        {
            "hidden_dim": 16,
            "gated": True,
            "dropout_rate": 0.1,
            "use_bias": True,
            "kernel_initializer": "glorot_uniform",
        },
        input_shape=(2, 3, DIM),
        expected_output_shape=(2, 3, DIM),
        expected_num_losses=0,
        supports_masking=True,
    )


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_equals_numpy(gated, use_bias):
    layer = layers.FeedForward(
        16, gated=gated, use_bias=use_bias, bias_initializer="normal"
    )
    x = data(2, 3)
    y = layer(x)

    def apply(dense, x):
        x = x @ dense.kernel.numpy()
        return x + dense.bias.numpy() if use_bias else x

    hidden = np.maximum(apply(layer.inner, x), 0)
    if gated:
        hidden = hidden * apply(layer.gate, x)
    np.testing.assert_allclose(y, apply(layer.outer, hidden), atol=1e-5)
    assert len(layer.weights) == (2 + gated) * (1 + use_bias)


def test_feed_forward_draws_each_kernel_anew():
    layer = layers.FeedForward(DIM, gated=True, kernel_initializer="normal")
    layer.build((None, DIM))
    inner, gate, outer = (w.numpy() for w in layer.weights)
    assert not np.allclose(inner, gate)
    assert not np.allclose(inner, outer)


@pytest.mark.large
def test_experts_contract():
    run_layer_test(
        layers.Experts,
        {
            "num_experts": 3,
            "hidden_dim": 5,
            "gated": True,
            "use_bias": True,
            "dropout_rate": 0.2,
        },
        input_shape=(2, 3, 4, DIM),
        expected_output_shape=(2, 3, 4, DIM),
        expected_num_trainable_weights=6,
    )


def test_router_contract():
    router = layers.SwitchRouter(num_experts=3)
    config = router.get_config()
    assert layers.SwitchRouter.from_config(config).get_config() == config
    assert "dtype" not in config


def make_encoder_block(sparse, **kwargs):
    feed_forward = layers.SparseMoE(3, 8) if sparse else layers.FeedForward(16)
    return layers.EncoderBlock(attention(), feed_forward, **kwargs)


def make_decoder_block(sparse, **kwargs):
    feed_forward = layers.SparseMoE(3, 8) if sparse else layers.FeedForward(16)
    return layers.DecoderBlock(
        layers.T5Attention(2, 4, name="self"),
        layers.T5Attention(2, 4, name="cross"),
        feed_forward,
        **kwargs,
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_encoder_block_ignores_padding(sparse):
    block = make_encoder_block(sparse)
    x = data(2, 6)
    mask = np.arange(6)[None] < np.array([[6], [3]])
    loud = np.where(mask[..., None], x, 1e6).astype("float32")
    received = np.asarray(block(loud, padding_mask=mask))
    expected = np.asarray(block(x, padding_mask=mask))
    np.testing.assert_allclose(received[mask], expected[mask], atol=1e-5)
    alone = np.asarray(block(x[1:, :3]))[0]
    np.testing.assert_allclose(received[1, :3], alone, atol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
def test_decoder_block_steps_equal_the_whole(sparse):
    block = make_decoder_block(sparse)
    x, memory = data(2, 5), data(2, 4)
    memory_mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    bias = np.random.normal(size=(2, 5, 5)).astype("float32")
    whole = block(x, memory, bias=bias, memory_mask=memory_mask)
    state = block.init_state(memory, memory_mask, max_length=5)
    for position in range(5):
        here = slice(position, position + 1)
        out, state = block.step(x[:, here], state, bias[:, here])
        np.testing.assert_allclose(out[:, 0], whole[:, position], atol=1e-5)


@pytest.mark.parametrize("exact_below", [None, "auto"])
def test_decoder_block_with_random_features(exact_below):
    block = layers.DecoderBlock(
        layers.RandomFeatureAttention(2, 4, 16, causal=True, rotary=True),
        layers.RandomFeatureAttention(2, 4, 16, exact_below=exact_below),
        layers.FeedForward(16),
    )
    x, memory = data(2, 5), data(2, 4)
    masks = {
        "padding_mask": np.arange(5) < np.array([[5], [3]]),
        "memory_mask": np.arange(4) < np.array([[4], [2]]),
    }
    whole = np.asarray(block(x, memory, training=False, **masks))
    state = block.init_state(memory, masks["memory_mask"])
    for position in range(5):
        out, state = block.step(x[:, position : position + 1], state)
        seen = masks["padding_mask"][:, position]
        np.testing.assert_allclose(
            np.asarray(out)[seen, 0], whole[seen, position], atol=1e-5
        )


@pytest.mark.parametrize("sparse", [False, True])
def test_decoder_block_is_causal(sparse):
    block = make_decoder_block(sparse)
    x, memory = data(2, 5), data(2, 4)
    later = x.copy()
    later[:, 3:] += 1.0
    before, after = block(x, memory), block(later, memory)
    np.testing.assert_allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert not np.allclose(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("make", [make_encoder_block, make_decoder_block])
@pytest.mark.parametrize("sparse", [False, True])
def test_blocks_come_back_from_their_config(make, sparse):
    block = make(sparse, dropout_rate=0.1, name="block")
    inputs = [data(2, 3)] * (2 if make is make_decoder_block else 1)
    expected = block(*inputs)
    clone = type(block).from_config(block.get_config())
    clone(*inputs)
    assert clone.get_config() == block.get_config()
    assert [w.path for w in clone.weights] == [w.path for w in block.weights]
    clone.set_weights(block.get_weights())
    np.testing.assert_array_equal(clone(*inputs), expected)


def test_blocks_in_a_functional_model_survive_a_file(tmp_path):
    x, memory = keras.Input((None, DIM)), keras.Input((None, DIM))
    encoded = make_encoder_block(True)(memory)
    decoded = make_decoder_block(True)(x, encoded)
    model = keras.Model([x, memory], decoded)
    path = tmp_path / "blocks.keras"
    model.save(path)
    inputs = [data(2, 3), data(2, 5)]
    np.testing.assert_array_equal(
        keras.models.load_model(path)(inputs), model(inputs)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.T5Attention(0, 4), "num_heads=0"),
        (lambda: layers.T5Attention(2, 0), "key_dim=0"),
        (lambda: layers.FeedForward(0), "hidden_dim=0"),
        (lambda: layers.Experts(0, 4), "num_experts=0"),
        (lambda: layers.Experts(2, 0), "hidden_dim=0"),
        (lambda: layers.Experts(2, 4, dropout_rate=1.0), "dropout_rate=1.0"),
        (
            lambda: layers.Experts(2, 4).build((None, 3, None, 8)),
            "num_experts=2.*3",
        ),
        (lambda: layers.SwitchRouter(0), "num_experts=0"),
        (lambda: layers.SwitchRouter(capacity_factor=0), "capacity_factor=0"),
        (
            lambda: layers.SwitchRouter(eval_capacity_factor=-1.0),
            "eval_capacity_factor=-1.0",
        ),
        (
            lambda: layers.SwitchRouter(min_expert_capacity=0),
            "min_expert_capacity=0",
        ),
        (lambda: layers.SwitchRouter(group_size=0), "group_size=0"),
        (
            lambda: layers.SwitchRouter(capacity_rounding="up"),
            "capacity_rounding='up'",
        ),
        (lambda: layers.SwitchRouter(jitter_noise=1.0), "jitter_noise=1.0"),
        (
            lambda: layers.SwitchRouter(load_balancing_loss_weight=-1),
            "load_balancing_loss_weight=-1",
        ),
        (
            lambda: layers.SwitchRouter(router_z_loss_weight=-1),
            "router_z_loss_weight=-1",
        ),
        (lambda: layers.SwitchRouter().build((1, 2, 3)), "num_experts=None"),
        (lambda: layers.SwitchRouter().expert_capacity(3), "num_experts=None"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_router_without_route_says_so():
    router = layers.Router(num_experts=2)
    with pytest.raises(NotImplementedError, match="Router must implement"):
        router(data(1, 3))


@pytest.mark.filterwarnings("error")
def test_a_mask_goes_through_a_block_without_a_warning():
    ids = keras.Input([None], dtype="int32")
    hidden = keras.layers.Embedding(10, 8, mask_zero=True)(ids)
    block = layers.EncoderBlock(
        layers.T5Attention(num_heads=2, key_dim=4), layers.FeedForward(16)
    )
    mean = keras.layers.GlobalAveragePooling1D()(block(hidden))
    model = keras.Model(ids, mean)
    np.testing.assert_allclose(
        model(np.array([[1, 2, 0]])), model(np.array([[1, 2]])), atol=1e-6
    )
