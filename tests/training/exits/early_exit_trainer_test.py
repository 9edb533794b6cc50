"""All exits of a decoder, trained at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.losses import exit_weights
from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import ExitClassifierTrainer
from tests.covering import covering
from tests.training.exits.early_exit_case import data
from tests.training.exits.early_exit_case import make
from tests.training.exits.early_exit_trainer_case import costs_of
from tests.training.exits.early_exit_trainer_case import loss_of
from tests.training.exits.early_exit_trainer_case import trainer_of


@pytest.fixture(scope="module")
def still():
    """A model that no test trains."""
    return make()


# === The loss ===


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({}, (1, 2, 3)),
        ({"weighting": "uniform", "min_exit_layer": 2}, (2, 3)),
        ({"weighting": "cumulative", "early_exit_scale": 0.3}, (1, 2, 3)),
        ({"exit_interval": 2, "weighting": "geometric"}, (1, 3)),
        ({"min_exit_layer": 3}, (3,)),
    ],
)
def test_loss_is_the_weighted_mean_of_the_exits(still, options, layers):
    model, (x, y) = still, data()
    trainer = trainer_of(model, **options)
    assert trainer.exits == layers
    weights = exit_weights(
        layers,
        options.get("weighting", "linear"),
        options.get("early_exit_scale", 1.0),
    )
    expected = np.dot(weights, costs_of(model, x, y, layers))
    for training in (True, False):
        received = loss_of(trainer, x, y, training=training)
        assert float(received) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"tie_embeddings": False, "target_vocabulary_size": 24},
        pytest.param({"tie_embeddings": False}, marks=pytest.mark.large),
        pytest.param({"target_vocabulary_size": 24}, marks=pytest.mark.large),
        {"num_experts": 3, "moe_every": 1, "layer_dropout_rate": 0.0},
    ],
)
def test_gradients_equal_those_of_all_logits_at_once(sizes):
    model, (x, y) = make(**sizes), data(vocabulary=24)
    trainer = trainer_of(model)
    variables = [v.value for v in trainer.trainable_variables]
    assert len(variables) == len(model.trainable_variables) > 10
    with tf.GradientTape() as tape:
        loss = loss_of(trainer, x, y)
    received = tape.gradient(loss, variables)

    with tf.GradientTape() as tape:
        states = tf.stack(model.exit_states(x, (1, 2, 3), training=True))
        losses = [token_crossentropy(y, z) for z in model.logits(states)]
        straight = tf.tensordot([1 / 6, 2 / 6, 3 / 6], losses, 1)
        straight += sum(model.losses)
    assert float(loss) == pytest.approx(float(straight), rel=1e-5)
    expected = tape.gradient(straight, variables)
    seen = set()
    for variable, ours, theirs in zip(
        trainer.trainable_variables, received, expected, strict=True
    ):
        ours, theirs = map(tf.convert_to_tensor, (ours, theirs))
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-4, atol=1e-5 * scale, err_msg=variable.path
        )
        if scale > 0:
            seen.add(variable.path)
    # What the exits share is among what was compared.
    shared = {"final_norm", "target_embedding", "block_0", "block_2"}
    assert all(any(name in path for path in seen) for name in shared)


def test_losses_of_layers_count_once():
    # Without a capacity the exits cost the same outside training.
    model = make(num_experts=3, moe_every=1, capacity_factor=None)
    x, y = data()
    trainer = trainer_of(model)
    received = float(loss_of(trainer, x, y))
    extra = [float(loss) for loss in trainer.losses]
    # Two of each of the four sparse layers, however many exits there are.
    assert len(extra) == 2 * 4
    assert min(extra) > 0
    exits = np.dot([1 / 6, 2 / 6, 3 / 6], costs_of(model, x, y, (1, 2, 3)))
    assert received - exits == pytest.approx(sum(extra), rel=1e-3)


# === What `compile` and `fit` are given ===


@pytest.mark.parametrize(
    ("loss", "weighted"),
    covering(
        [
            token_crossentropy,
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=0
            ),
            keras.losses.MeanSquaredError(),
            "mean_absolute_error",
        ],
        [True, False],
        strength=1,
    ),
)
def test_a_lone_exit_costs_what_the_model_itself_does(loss, weighted):
    model, (x, y) = make(layers=2), data()
    if not isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        if loss is not token_crossentropy:
            y = np.random.normal(size=(*y.shape, 32)).astype("float32")
    sample_weight = np.array([[0.5], [0.0], [2.0]]) if weighted else None
    trainer = trainer_of(model, loss, min_exit_layer=2)
    received = trainer.evaluate(
        x, y, sample_weight=sample_weight, verbose=0, return_dict=True
    )
    if weighted and loss is token_crossentropy:
        # Of one value for the batch, Keras could weigh no rows.
        expected = float(loss(y, model(x), sample_weight=sample_weight))
    else:
        model.compile(loss=loss, run_eagerly=True)
        expected = model.evaluate(x, y, sample_weight=sample_weight, verbose=0)
    assert received["loss"] == pytest.approx(expected, rel=1e-5)
    assert received["exit_2_loss"] == pytest.approx(expected, rel=1e-5)


def test_rows_of_no_weight_have_no_say():
    model, (x, y) = make(layers=2), data()
    # Without padding a row is a row's mean.
    y = np.where(y == 0, 5, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer = trainer_of(model, loss)
    weights = np.array([1.0, 0.0, 3.0])
    received = float(loss_of(trainer, x, y, weights[:, None]))
    rows = []
    for row in range(3):
        own = {name: ids[row : row + 1] for name, ids in x.items()}
        rows.append(
            np.dot([1 / 3, 2 / 3], costs_of(model, own, y[row:][:1], (1, 2)))
        )
    assert received == pytest.approx(np.dot(weights, rows) / 3, rel=1e-5)


def test_metrics_see_the_last_exit(still):
    seen = []

    def spy(y_true, y_pred):
        seen.append(y_pred)
        return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)

    model, (x, y) = still, data()
    trainer = trainer_of(model, metrics=[spy])
    report = trainer.evaluate(x, y, verbose=0, return_dict=True)
    last = np.asarray(model(x))
    np.testing.assert_allclose(seen[-1], last, atol=1e-6)
    assert report["spy"] == pytest.approx((last.argmax(-1) == y).mean())


def test_each_exit_is_reported(still):
    model, (x, y) = still, data(batch=5)
    trainer = trainer_of(model, min_exit_layer=1, exit_interval=2)
    report = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert set(report) == {"loss", "exit_1_loss", "exit_3_loss"}
    first, last = costs_of(model, x, y, (1, 3))
    assert report["exit_1_loss"] == pytest.approx(first, rel=1e-5)
    assert report["exit_3_loss"] == pytest.approx(last, rel=1e-5)


def test_reports_add_up_though_the_last_batch_is_smaller(still):
    model, (x, y) = still, data(batch=5)
    report = trainer_of(model).evaluate(
        x, y, batch_size=3, verbose=0, return_dict=True
    )
    exits = [report[f"exit_{layer}_loss"] for layer in (1, 2, 3)]
    mean = np.dot([1 / 6, 2 / 6, 3 / 6], exits)
    assert report["loss"] == pytest.approx(mean, rel=1e-5)


# === Curricula ===


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        # Every second exit, from the first, then from the second; the last
        # always.
        (
            {"curriculum": "rotating"},
            {0: [1, 0, 3], 1: [0, 2, 3], 2: [1, 0, 3], 3: [0, 2, 3]},
        ),
        (
            {"curriculum": "rotating", "curriculum_interval": 3},
            {0: [1, 0, 3], 1: [0, 0, 3], 2: [0, 2, 3], 3: [1, 0, 3]},
        ),
        # Layer l from the step 0.5 * 24 * (3 - l) / 3 on.
        (
            {"curriculum": "gradual", "num_steps": 24},
            {0: [0, 0, 3], 3: [0, 0, 3], 4: [0, 2, 3], 7: [0, 2, 3]}
            | {8: [1, 2, 3], 30: [1, 2, 3]},
        ),
        (
            {
                "curriculum": "gradual",
                "num_steps": 24,
                "curriculum_fraction": 1.0,
            },
            {7: [0, 0, 3], 8: [0, 2, 3], 15: [0, 2, 3], 16: [1, 2, 3]},
        ),
    ],
)
def test_curricula_change_the_loss_by_step(still, options, weights):
    model, (x, y) = still, data()
    trainer = trainer_of(model, **options)
    costs = costs_of(model, x, y, (1, 2, 3))
    for step, raw in weights.items():
        trainer.optimizer.iterations.assign(step)
        expected = np.dot(raw, costs) / sum(raw)
        assert float(loss_of(trainer, x, y)) == pytest.approx(
            expected, rel=1e-5
        )
        if step in (min(weights), max(weights)):
            # Evaluation looks at all exits, whatever the step.
            received = loss_of(trainer, x, y, training=False)
            whole = np.dot([1, 2, 3], costs) / 6
            assert float(received) == pytest.approx(whole, rel=1e-5)


# === As a whole ===


def test_training_lowers_every_exit_and_is_saved(tmp_path):
    model, (x, y) = make(layers=2), data()
    trainer = EarlyExitTrainer(model, curriculum="rotating")
    trainer.compile(
        keras.optimizers.Adam(0.02), token_crossentropy, jit_compile=False
    )
    before = costs_of(model, x, y, (1, 2))
    batches = tf.data.Dataset.from_tensors((x, y))
    history = trainer.fit(batches, verbose=0).history
    # In the graph, too, the first report is of the model as it was.
    (cost,) = history["exit_1_loss"]
    assert cost == pytest.approx(before[0], rel=1e-4)
    trainer.fit(batches.repeat(29), verbose=0)
    after = costs_of(model, x, y, (1, 2))
    assert (np.array(after) < 0.5 * np.array(before)).all()

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for ours, theirs in zip(
        loaded.exit_states(x, (1, 2)), model.exit_states(x, (1, 2)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


# === Errors ===


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_exit_layer": 4}, "from 1 to 3.*min_exit_layer=4"),
        ({"exit_interval": 0}, "exit_interval=0"),
        ({"weighting": "log"}, "weighting='log'"),
        ({"early_exit_scale": -1.0}, "early_exit_scale=-1.0"),
        ({"curriculum": "random"}, "curriculum='random'"),
        ({"curriculum": "gradual"}, "num_steps=None"),
        (
            {"curriculum": "rotating", "curriculum_interval": 0},
            "interval=0",
        ),
    ],
)
def test_errors_come_before_training(still, options, message):
    with pytest.raises(ValueError, match=message):
        EarlyExitTrainer(still, **options)


def test_a_frozen_model_is_refused():
    model = make(exit_classifier=True)
    ExitClassifierTrainer(model)
    with pytest.raises(ValueError, match="must have trainable weights"):
        EarlyExitTrainer(model)


def test_without_a_loss_it_says_so():
    x, y = data()
    trainer = trainer_of(make(layers=2), loss=None)
    with pytest.raises(ValueError, match="must be given a `loss`.*loss=None"):
        trainer.fit(x, y, verbose=0)
