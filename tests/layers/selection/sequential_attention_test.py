"""Which features are picked, when, and what is saved of it.

Recomputation: `tests/layers/recomputation_test.py`. Replicas:
`tests/layers/mirrored_case.py`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_moe.layers import SelectFeatures
from keras_moe.layers import SequentialAttention
from keras_moe.training import Trainer
from tests.layers.layer_test_case import run_layer_test

RNG = np.random.default_rng(3)
COLUMNS = 8
X = RNG.normal(size=(320, COLUMNS)).astype("float32")
# What a picked column says already has nothing to win.
X[:, 5] = X[:, 2] + 0.1 * RNG.normal(size=320)
Y = 3 * X[:, 2] + 2 * X[:, 6] - X[:, 0]
STEPS = 200


def model_of(layer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([COLUMNS]), layer])
    model.add(keras.layers.Dense(1))
    options = {"jit_compile": False, **options}
    model.compile(keras.optimizers.Adam(0.05), "mse", **options)
    return model


def fit(model, steps=STEPS, data=X):
    batches = tf.data.Dataset.from_tensor_slices((data, Y)).repeat()
    model.fit(batches.batch(32), epochs=1, steps_per_epoch=steps, verbose=0)


@pytest.fixture(scope="module")
def trained():
    layer = SequentialAttention(3, total_steps=STEPS)
    model = model_of(layer)
    fit(model)
    return model


def state(layer):
    return [np.array(ops.convert_to_numpy(each)) for each in layer.weights]


def same(one, other):
    return all(map(np.array_equal, one, other))


def test_features_that_matter_are_picked_and_the_rest_is_zero(trained):
    layer = trained.layers[0]
    # Columns 2 and 5 say the same: one of them, and that first.
    assert set(layer.selected()) in ({2, 6, 0}, {5, 6, 0})
    assert layer.selected()[0] in (2, 5)
    kept = np.isin(np.arange(COLUMNS), layer.selected())
    np.testing.assert_array_equal(layer(X), np.where(kept, X, 0))


def test_what_is_kept_is_a_layer_without_dead_columns(trained):
    layer = trained.layers[0]
    select = layer.to_select_layer()
    np.testing.assert_array_equal(select(X), X[:, sorted(layer.selected())])
    first = layer.to_select_layer(1)
    np.testing.assert_array_equal(first(X), X[:, layer.selected()[:1]])
    assert isinstance(select, SelectFeatures)


class Slow:
    """The algorithm, written out, with logits that somebody else moves."""

    def __init__(self, k, per_step, total_steps, warmup, runs, features):
        phases = -(-k // per_step)
        self.k, self.per_step, self.runs = k, per_step, runs
        ends = np.linspace(warmup, total_steps - 1, phases * runs + 1)[1:]
        self.ends = [int(end) for end in ends]
        self.warmup, self.features = warmup, features
        self.picked, self.step = [], 0
        self.base, self.mean = np.zeros(features), np.zeros(features)

    def call(self, logits):
        if self.step in self.ends:
            self.mean += self.shares(logits) / self.runs
            self.base = logits.copy()
            if (self.ends.index(self.step) + 1) % self.runs == 0:
                for _ in range(min(self.per_step, self.k - len(self.picked))):
                    free = [
                        (self.mean[i], -i)
                        for i in range(self.features)
                        if i not in self.picked
                    ]
                    self.picked.append(-max(free)[1])
                self.mean[:] = 0
        self.step += 1
        if self.step <= self.warmup:
            return np.ones(self.features)
        attention = np.zeros(self.features)
        if len(self.picked) < self.k:
            attention = self.shares(logits)
        attention[self.picked] = 1.0
        return attention

    def shares(self, logits):
        z = np.exp(logits - self.base)
        z[self.picked] = 0
        return z / z.sum()


@pytest.mark.parametrize(
    ("k", "per_step", "total_steps", "runs"),
    [(3, 1, 20, 1), (5, 2, 23, 1), (4, 3, 40, 3), (8, 8, 6, 2), (8, 1, 30, 1)],
)
def test_attention_is_that_of_the_algorithm(k, per_step, total_steps, runs):
    layer = SequentialAttention(
        k, per_step, total_steps=total_steps, num_runs=runs
    )
    layer.build((None, COLUMNS))
    warmup = int(0.1 * total_steps)
    slow = Slow(k, per_step, total_steps, warmup, runs, COLUMNS)
    call = tf.function(lambda x: layer(x, training=True), autograph=False)
    logits = np.zeros(COLUMNS)
    for step in range(total_steps + 3):
        out = call(np.ones((1, COLUMNS), "float32"))
        np.testing.assert_allclose(out[0], slow.call(logits), atol=1e-6)
        assert layer.selected() == slow.picked
        if step == total_steps - 1:
            assert len(layer.selected()) == k
        logits = logits + RNG.normal(size=COLUMNS).round(3)
        layer.logits.assign(logits)


def test_nothing_moves_in_evaluation_or_frozen():
    layer = SequentialAttention(2, total_steps=8)
    model = model_of(layer, run_eagerly=True)
    model.train_on_batch(X[:32], Y[:32])
    before = state(layer)
    model.evaluate(X[:64], Y[:64], verbose=0)
    model.predict(X[:64], verbose=0)
    layer(X)
    assert same(before, state(layer))
    layer.trainable = False
    model.compile("sgd", "mse", run_eagerly=True)
    fit(model, 9)
    assert same(before, state(layer))


@pytest.mark.parametrize(
    "accumulation", [pytest.param(1, marks=pytest.mark.large), 4]
)
def test_an_update_of_several_batches_is_one_step(accumulation):
    layer = SequentialAttention(2, total_steps=8, warmup_fraction=0)
    model = model_of(layer)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(10).repeat()
    Trainer(model, gradient_accumulation_steps=accumulation).fit(
        data, steps_per_epoch=8 * accumulation, verbose=0
    )
    assert int(ops.convert_to_numpy(layer.step)) == 8
    assert len(layer.selected()) == 2


def test_a_selection_saved_half_way_goes_on(trained, tmp_path):
    half = model_of(SequentialAttention(3, total_steps=STEPS))
    fit(half, 80)
    assert 0 < len(half.layers[0].selected()) < 3
    half.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert same(state(loaded.layers[0]), state(half.layers[0]))
    fit(loaded, 120)
    assert len(loaded.layers[0].selected()) == 3
    assert set(loaded.layers[0].selected()) == set(trained.layers[0].selected())


def test_it_is_served(trained, tmp_path):
    trained.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(X), trained(X), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"jit_compile": True}, {"jit_compile": False, "steps_per_execution": 7}],
)
def test_however_it_is_compiled_the_same_is_picked(trained, options):
    model = model_of(SequentialAttention(3, total_steps=STEPS), **options)
    fit(model, 203)
    assert model.layers[0].selected() == trained.layers[0].selected()


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.large)],
)
def test_half_precision_picks_exactly_k(policy):
    layer = SequentialAttention(3, total_steps=STEPS, dtype=policy)
    fit(model_of(layer))
    assert layer(X).dtype == policy.removeprefix("mixed_")
    assert layer.logits.dtype == "float32"
    assert layer.selected()[0] in (2, 5) and len(set(layer.selected())) == 3


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_tells_close_logits_apart(policy):
    layer = SequentialAttention(
        1, total_steps=10, warmup_fraction=0.0, dtype=policy
    )
    layer.build((None, 3))
    layer.step.assign(9)
    # The three are one number in either half precision.
    layer.logits.assign([8.0, 8.001, 8.0015])
    layer(np.ones((1, 3)), training=True)
    assert layer.selected() == [2]


def test_layer():
    run_layer_test(
        SequentialAttention,
        {"num_features": 2, "total_steps": 30, "num_runs": 2},
        input_shape=(4, 6),
        expected_num_trainable_weights=1,
        expected_num_non_trainable_weights=5,
        supports_masking=True,
    )


@pytest.mark.parametrize(
    "value", [np.nan, 3.0, pytest.param(np.inf, marks=pytest.mark.large)]
)
def test_columns_that_say_nothing_are_never_picked(value):
    data = X.copy()
    data[:, 6] = value
    layer = SequentialAttention(3, total_steps=STEPS)
    model = model_of(layer)
    assert layer.adapt(data) == [6]
    fit(model, data=data)
    assert 6 not in layer.selected() and len(layer.selected()) == 3
    assert np.isfinite(model(data)).all()
    for weight in state(layer):
        assert np.isfinite(weight).all()


def test_logits_that_are_nan_pick_no_feature_twice():
    layer = SequentialAttention(4, total_steps=20)
    layer.build((None, COLUMNS))
    layer.logits.assign(np.full(COLUMNS, np.nan))
    for _ in range(20):
        layer(X, training=True)
    assert len(set(layer.selected())) == 4


def test_a_layer_that_has_seen_no_data_says_so():
    layer = SequentialAttention(2, total_steps=9)
    for ask in (
        layer.selected,
        layer.to_select_layer,
        lambda: layer.exclude([1]),
    ):
        with pytest.raises(ValueError, match="call it on data first"):
            ask()
    layer(np.ones([3, 4], "float32"))
    assert layer.selected() == []
