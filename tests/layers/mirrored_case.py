"""Cases that need two devices, by name.

`python -m tests.layers.mirrored_case NAME ...`: logical devices are made before
TensorFlow starts, hence once a process.
"""

import functools
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_moe import layers
from keras_moe.layers.routers._replica_losses import ReplicaLosses
from keras_moe.losses import load_balancing_loss
from keras_moe.visualization import ExpertLoadCallback

DIM = 5
# Layers by name, with their numbers of experts.
ONE = {"first": 4}
TWO = {"first": 4, "second": 3}


class Balanced(ReplicaLosses):
    """A kernel that learns from the balance of the global batch alone.

    The last feature of a token says whether it is one, or padding.
    """

    def __init__(self, choices, across_replicas=True):
        super().__init__()
        self.choices = choices
        self.across_replicas = across_replicas

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1] - 1, 4), initializer="glorot_normal"
        )

    def call(self, inputs):
        tokens = keras.ops.reshape(inputs, (1, -1, inputs.shape[-1]))
        logits = tokens[..., :-1] @ self.kernel
        index = keras.ops.top_k(logits, self.choices)[1]
        loss = load_balancing_loss(
            keras.ops.softmax(logits),
            tokens[..., -1] > 0,
            index,
            across_replicas=self.across_replicas,
        )
        self.add_loss(loss)
        return inputs * keras.ops.sum(self.kernel * 0.0)


@functools.cache
def strategy():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def global_balance():
    """The loss of the global batch, in value and in gradient."""
    mirrored = strategy()
    rng = np.random.default_rng(3)
    # The replicas' tokens lean to different experts, and one has fewer.
    x = rng.normal(size=(8, 6, DIM + 1)).astype("float32")
    x[:4] += 1.0
    x[..., -1] = rng.random((8, 6)) < np.r_[[0.9] * 4, [0.3] * 4][:, None]
    for choices in (1, 3):
        trained = []
        for scope in (mirrored, tf.distribute.get_strategy()):
            with scope.scope():
                keras.utils.set_random_seed(1)
                model = keras.Sequential([Balanced(choices)])
                model.build((None, 6, DIM + 1))
                before = model.get_weights()[0]
                model.compile(keras.optimizers.SGD(1.0), jit_compile=False)
                history = model.fit(x, x, batch_size=8, verbose=0).history
            step = model.get_weights()[0] - before
            trained.append((history["loss"][0], step))
        (mean, step), (whole, expected) = trained
        np.testing.assert_allclose(mean, whole, rtol=1e-5)
        np.testing.assert_allclose(step, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(step).max() > 1e-3
        # Not what the replicas would find each on its own.
        with mirrored.scope():
            keras.utils.set_random_seed(1)
            model = keras.Sequential([Balanced(choices, False)])
            model.compile("sgd", jit_compile=False)
            logs = model.evaluate(x, x, batch_size=8, verbose=0)
        assert abs(logs - whole) > 1e-2 * whole


def sparse_model(experts_of, **router):
    inputs = keras.Input((6, DIM))
    x = inputs
    for name, experts in experts_of.items():
        layer = layers.SparseMoE(
            experts,
            8,
            router=layers.SwitchRouter(
                jitter_noise=0.0, kernel_initializer="glorot_normal", **router
            ),
            name=name,
        )
        x = x + layer(x)
    return keras.Model(inputs, x)


def trained(
    scope,
    x,
    experts_of,
    batch_size=8,
    callbacks=None,
    rate=0.1,
    **router,
):
    """The weights after a step or more, and the history."""
    with scope.scope():
        keras.utils.set_random_seed(1)
        model = sparse_model(experts_of, **router)
        before = model.get_weights()
        # On one device a step takes less time than its graph.
        model.compile(
            keras.optimizers.SGD(rate),
            "mse",
            jit_compile=False,
            run_eagerly=scope is not strategy(),
        )
        history = model.fit(
            x,
            np.roll(x, 1, -1),
            batch_size=batch_size,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        ).history
    steps = [
        new - old for old, new in zip(before, model.get_weights(), strict=True)
    ]
    return steps, history


def assert_same(received, expected, names=None):
    for mine, theirs in zip(received[0], expected[0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    for name in names or expected[1]:
        np.testing.assert_allclose(
            received[1][name],
            expected[1][name],
            rtol=1e-4,
            atol=1e-6,
            err_msg=name,
        )


def losses_once(experts_of=ONE):
    """Two replicas learn what one device would: each loss counts once."""
    mirrored, alone = strategy(), tf.distribute.get_strategy()
    rng = np.random.default_rng(3)
    half, other = rng.normal(size=(2, 4, 6, DIM)).astype("float32")
    router = {
        "capacity_factor": None,
        "load_balancing_loss_weight": 1.0,
        "router_z_loss_weight": 1.0,
    }
    for x, across in (
        # f and P of a replica are those of the whole.
        (np.concatenate([half, half]), False),
        # With the balance of the global batch any tokens will do. The z-loss
        # is a mean over tokens anyhow.
        (np.concatenate([half, other]), True),
    ):
        router["balance_across_replicas"] = across
        pair = [
            trained(scope, x, experts_of, **router)
            for scope in (mirrored, alone)
        ]
        # The fullest queue, and so the usage of slots, is a replica's own.
        names = [n for n in pair[0][1] if not n.endswith("expert_usage")]
        assert_same(*pair, names)
    # Both losses are in what was learnt.
    for weight in ("router_z_loss_weight", "load_balancing_loss_weight"):
        other, _ = trained(alone, x, experts_of, **{**router, weight: 0.0})
        gap = [
            np.abs(a - b).max() for a, b in zip(pair[0][0], other, strict=True)
        ]
        assert max(gap) > 1e-4


def losses_of_two_layers_once():
    losses_once(TWO)


def metrics_of_all_replicas():
    """What is logged and recorded is of the tokens of all replicas."""
    mirrored, alone = strategy(), tf.distribute.get_strategy()
    rng = np.random.default_rng(4)
    x = rng.normal(size=(16, 6, DIM)).astype("float32")
    # A group is one row: the same groups, whoever has them.
    router = {
        "group_size": 6,
        "capacity_factor": 0.6,
        "min_expert_capacity": 1,
    }
    results = []
    for scope in (mirrored, alone):
        callback = ExpertLoadCallback()
        results.append(
            trained(scope, x, TWO, callbacks=[callback], rate=0.0, **router)
        )
    history = results[1][1]
    names = [
        f"{layer}/{name}"
        for layer in ("first", "second")
        for name in (
            "auxiliary_loss",
            "expert_load",
            "expert_load_cv",
            "expert_usage",
            "fraction_tokens_left_behind",
            "router_entropy",
            "router_z_loss",
        )
    ]
    assert history["first/fraction_tokens_left_behind"][0] > 0.05
    assert history["first/expert_load_cv"][0] > 0.05
    assert_same(*results, ["loss", *names])


def random_feature_statistics():
    """Moving averages and projections are those of the global batch."""
    mirrored = strategy()
    rng = np.random.default_rng(5)
    x = rng.normal(size=(8, 6, DIM)).astype("float32")
    # The replicas' data differ.
    x[:4] = 2.0 * x[:4] + 1.0
    results = []
    for scope in (mirrored, tf.distribute.get_strategy()):
        with scope.scope():
            keras.utils.set_random_seed(1)
            inputs = keras.Input((6, DIM))
            layer = layers.RandomFeatureAttention(
                2,
                4,
                8,
                redraw_interval=2,
                exact_below=None,
                seed=7,
                name="attention",
            )
            model = keras.Sequential([inputs, _SelfAttention(layer)])
            model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        history = model.fit(
            x, x, batch_size=8, epochs=3, shuffle=False, verbose=0
        ).history
        results.append((model.get_weights(), history))
        if scope is mirrored:
            for weight in layer.features.weights:
                first, second = weight.value.values
                np.testing.assert_array_equal(first, second)
    (weights, history), (expected, other) = results
    assert int(layer.features.num_updates) == 3
    assert np.abs(np.asarray(layer.features.query_moments[0])).max() > 0.1
    for received, each in zip(weights, expected, strict=True):
        np.testing.assert_allclose(received, each, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(history["loss"], other["loss"], rtol=1e-4)


def selection_of_features():
    """Replicas that see other examples pick the same, and count a step once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 6)).astype("float32")
    y = 3 * x[:, 2] + 2 * x[:, 4]
    with strategy().scope():
        layer = layers.SequentialAttention(2, total_steps=80)
        model = keras.Sequential([keras.Input([6]), layer])
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
    model.fit(x, y, batch_size=32, epochs=8, verbose=0)
    assert layer.selected() == [2, 4]
    assert int(keras.ops.convert_to_numpy(layer.step)) == 80
    for weight in layer.weights:
        first, second = weight.value.values
        np.testing.assert_array_equal(first, second)


class _SelfAttention(keras.layers.Layer):
    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)

    def call(self, x, training=None):
        return self.attention(x, x, training=training)


if __name__ == "__main__":
    for case in sys.argv[1:]:
        globals()[case]()
