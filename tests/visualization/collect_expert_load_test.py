import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe import models
from keras_moe.visualization import collect_expert_load
from keras_moe.visualization import plot_expert_load

DIM = 6


def sparse(num_experts, name, **router):
    router = {"kernel_initializer": "glorot_normal", **router}
    return layers.SparseMoE(
        num_experts, 8, router=layers.SwitchRouter(**router), name=name
    )


def make(**router):
    inputs = keras.Input((None, DIM))
    x = inputs + sparse(4, "first", **router)(inputs)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(inputs, sparse(3, "second", **router)(x))


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def state(model):
    return [np.array(v) for v in model.variables + model.metrics_variables] + [
        np.array(v) for v in model.non_trainable_variables
    ]


def counted(layer, x, experts):
    """The share of tokens whose best expert is e."""
    best = np.argmax(x.reshape(-1, DIM) @ layer.router.kernel.numpy(), -1)
    return [np.mean(best == e) for e in range(experts)]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, size):
        super().__init__()
        self.x, self.size = x, size

    def __getitem__(self, index):
        return self.x[2 * index : 2 * index + 2], np.zeros(2)

    @property
    def num_batches(self):
        return self.size


def test_counts_where_tokens_go():
    model, x = make(), data(6, 5)
    loads = collect_expert_load(model, x)
    assert loads.names == ("first", "second")
    first, second = (model.get_layer(name) for name in loads.names)
    np.testing.assert_allclose(loads.loads[0], counted(first, x, 4), rtol=1e-5)
    y = np.asarray(x + first(x))
    np.testing.assert_allclose(loads.loads[1], counted(second, y, 3), rtol=1e-5)
    assert loads.dropped == (0.0, 0.0)


def test_takes_data_in_every_form():
    model, x = make(), data(6, 5)
    expected = collect_expert_load(model, x).loads[0]
    y = np.zeros(6)
    pairs = tf.data.Dataset.from_tensor_slices((x, y))
    for form in (
        x,
        tf.constant(x),
        pairs.batch(4),
        [x[:2], x[2:]],
        [(x[:2], y[:2]), (x[2:], y[2:], y[2:])],
        (x[i : i + 1] for i in range(6)),
        Batches(x, 3),
    ):
        received = collect_expert_load(model, form, batch_size=4).loads[0]
        np.testing.assert_allclose(received, expected, rtol=1e-6)
    half = collect_expert_load(model, x[:4]).loads[0]
    for form in (x, pairs.batch(2).repeat(), Batches(x, None)):
        received = collect_expert_load(model, form, steps=2, batch_size=2)
        np.testing.assert_allclose(received.loads[0], half, rtol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_leaves_the_model_as_it_was(training, run_eagerly):
    model = make(capacity_factor=1.0, jitter_noise=0.1)
    model.compile("adam", "mse", run_eagerly=run_eagerly)
    x = data(8, 5)
    model.fit(x, x[..., :DIM], verbose=0)
    before = state(model)
    collect_expert_load(model, x, training=training)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_training_would_drop():
    model = make(capacity_factor=0.5, min_expert_capacity=1)
    x = np.tile(data(1, 1), (4, 5, 1))  # all tokens want one expert
    assert collect_expert_load(model, x).dropped == (0.0, 0.0)
    loads = collect_expert_load(model, x, training=True)
    # Half of an even share, 20 / 4 * 0.5, rounded up: 3 of 20 stay.
    assert loads.dropped[0] == pytest.approx(17 / 20)
    # The load is what was asked for, not what was left of it.
    assert sorted(loads.loads[0]) == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "router",
    [
        layers.TopKRouter,
        layers.BiasBalancedRouter,
        layers.ExpertChoiceRouter,
        lambda: layers.SoftRouter(slots_per_expert=2),
    ],
)
def test_every_kind_of_router(router):
    inputs = keras.Input((None, DIM))
    layer = layers.SparseMoE(4, 8, router=router(), name="moe")
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse", jit_compile=False)
    x = data(4, 5)
    # The graph of evaluation counts the same.
    logs = model.evaluate(x, x, verbose=0, return_dict=True)
    (load,) = collect_expert_load(model, x).loads
    assert load.sum() == pytest.approx(1.0)
    assert np.std(load) / np.mean(load) == pytest.approx(
        logs["moe/expert_load_cv"], rel=1e-3, abs=1e-5
    )
    before = state(model)  # the bias that balances is a part of it
    collect_expert_load(model, x, training=True)
    for old, new in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_finds_layers_wherever_they_are():
    model = models.SwitchTransformer(
        vocabulary_size=12,
        model_dim=8,
        num_encoder_layers=4,
        num_decoder_layers=2,
        num_heads=2,
        hidden_dim=8,
        num_experts=4,
        moe_every=2,
    )
    ids = np.random.randint(1, 12, (4, 5))
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    with pytest.raises(ValueError, match="`model` must be built"):
        collect_expert_load(keras.Sequential([sparse(2, "a")]), ids)
    model(inputs)
    loads = collect_expert_load(model, inputs, batch_size=2)
    assert len(loads.names) == 3
    assert all(len(load) == 4 for load in loads.loads)
    assert all(load.sum() == pytest.approx(1.0) for load in loads.loads)
    logged = model.get_metrics_result()
    for name in loads.names:
        assert f"{name}/fraction_tokens_left_behind" in logged
    labels = plot_expert_load(model, inputs).axes[0].get_yticklabels()
    texts = [label.get_text() for label in labels]
    # In the order of the computation.
    assert texts == ["encoder/block_1", "encoder/block_3", "decoder/block_1"]


def test_errors():
    model, x = make(), data(4, 5)
    dense = keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="have a `keras_moe.layers.SparseMoE`"):
        collect_expert_load(dense, x)
    with pytest.raises(ValueError, match="`data` must hold a batch"):
        collect_expert_load(model, [])
    endless = tf.data.Dataset.from_tensors(x).repeat()
    for form in (endless, Batches(x, None)):
        with pytest.raises(ValueError, match="`steps` must be given"):
            collect_expert_load(model, form)
    with pytest.raises(ValueError, match="`steps` must be a positive"):
        collect_expert_load(model, x, steps=0)
    with pytest.raises(ValueError, match="`data` must be given with a model"):
        plot_expert_load(model)
