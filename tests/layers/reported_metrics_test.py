"""What of the metrics of layers a model reports, and where."""

import contextlib
from unittest import mock

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.backend import without_traces
from keras_moe.visualization import ExpertLoadCallback
from keras_moe.visualization import LayerLoads
from keras_moe.visualization import plot_expert_load
from keras_moe.weights import named_state
from tests.layers.moe.sparse_moe_case import METRICS

X = np.random.default_rng(0).normal(size=(4, 6, 8)).astype("float32")


class Block(keras.layers.Layer):
    """A user's layer around two of ours."""

    def __init__(self, **kwargs):
        super().__init__()
        router = layers.TopKRouter(2, **kwargs)
        self.moe = layers.SparseMoE(2, 4, router=router, name="moe")
        self.attention = layers.RandomFeatureAttention(
            2, 4, 16, seed=1, name="attention"
        )

    def call(self, x, training=None):
        x = self.moe(x, training=training)
        return self.attention(x, x, training=training)


def make(**kwargs):
    inputs = keras.Input((6, 8))
    block = Block(**kwargs)
    outputs = keras.layers.TimeDistributed(keras.layers.Dense(8))(block(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", run_eagerly=True)
    return model, block


@pytest.fixture(scope="module")
def fitted():
    model, block = make()
    logs = model.fit(X, X, validation_data=(X, X), verbose=0).history
    return model, block, logs


def of_routing(names):
    return [n for n in names if n.rsplit("/", 1)[-1] in METRICS]


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_each_once_at_any_depth(fitted):
    model, block, _ = fitted
    names = [metric.name for metric in model.metrics]
    assert sorted(set(names)) == sorted(names)
    assert len(of_routing(names)) == len(METRICS)
    assert len(model.evaluate(X, X, verbose=0)) == len(METRICS) + 2
    assert not block.moe.metrics and not block.attention.metrics
    assert len(block.moe.router.metrics) == len(METRICS)


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_evaluation_reports_the_variance_of_the_features(fitted):
    _, block, logs = fitted
    name = f"val_{block.attention.path}/relative_variance"
    predicted = np.max(block.attention.features.predicted_variance)
    assert predicted > 0
    np.testing.assert_allclose(logs[name], predicted, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*relative_variance")
def test_frozen_features_report_it_too_and_unfitted_ones_nan():
    model, block = make()
    name = f"{block.attention.path}/relative_variance"
    assert np.isnan(model.evaluate(X, X, verbose=0, return_dict=True)[name])
    block.attention.adapt(X, X)
    block.attention.trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    predicted = np.max(block.attention.features.predicted_variance)
    logs = model.fit(X, X, verbose=0).history
    np.testing.assert_allclose(logs[name], predicted, rtol=1e-6)


def test_a_switch_leaves_routers_out_of_logs_and_keeps_their_figures():
    model, block = make(report_metrics=False)
    assert not of_routing(metric.name for metric in model.metrics)
    assert block.moe.router.get_config()["report_metrics"] is False
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: counts.append(
            float(np.sum(block.moe.router.expert_load.counts))
        )
    )
    history = model.fit(
        X, X, epochs=2, verbose=0, callbacks=[ExpertLoadCallback(), count]
    )
    # Two choices a token, each epoch by itself, though Keras resets only what
    # is reported.
    assert counts == [48, 48]
    assert LayerLoads.from_history(history).dropped == (0.0,)
    assert plot_expert_load(history) is not None
    # Devices and checkpoints know them: a training may go on with other logs.
    kept = [n for n in named_state(model) if n.startswith("metrics/block/moe/")]
    assert len(kept) == 2 * (len(METRICS) - 1) + 1


def test_nothing_is_reported_where_loops_lose_it(fitted):
    """Keras's loops on JAX: all would be 0, whatever was dropped."""
    model, _, _ = fitted
    with mock.patch.object(keras.backend, "backend", return_value="jax"):
        names = [metric.name for metric in model.metrics]
    assert names == ["loss"]


def test_nothing_is_computed_where_nobody_reads_it(fitted):
    """As in decoding: it would make a third of a sparse layer's operations."""
    _, block, _ = fitted
    metrics = block.moe.router.trackers.values()

    def call(scope):
        updates = []
        with contextlib.ExitStack() as stack:
            for metric in metrics:
                assign = mock.patch.object(
                    metric.total, "assign_add", side_effect=updates.append
                )
                stack.enter_context(assign)
            stack.enter_context(scope)
            return block(X), updates

    outputs, updates = call(contextlib.nullcontext())
    assert len(updates) == len(metrics) and len(block.losses) == 2
    same, updates = call(without_traces())
    assert not updates and not block.losses
    np.testing.assert_array_equal(same, outputs)
    # Who reads what is assigned in a scope finds it there.
    _, updates = call(keras.StatelessScope())
    assert len(updates) == len(metrics)
