"""All exits of a decoder, trained at once."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.losses import exit_weights
from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import ExitClassifierTrainer
from tests.reference import losses as reference
from tests.training.early_exit_case import data
from tests.training.early_exit_case import make


def trainer_of(model, loss=token_crossentropy, metrics=None, **options):
    trainer = EarlyExitTrainer(model, **options)
    # Eager: what is compared is what is computed, not how it is compiled.
    trainer.compile("sgd", loss, metrics=metrics, run_eagerly=True)
    return trainer


def loss_of(trainer, x, y, sample_weight=None, training=True):
    y_pred = trainer(x, training=training)
    return trainer.compute_loss(x, y, y_pred, sample_weight, training)


def logits_of(model, x, layers):
    """Of all exits at once."""
    states = tf.stack(model.exit_states(x, layers))
    return model.logits(states)


def costs_of(model, x, y, layers):
    return [
        reference.crossentropy(y, logits.numpy())
        for logits in logits_of(model, x, layers)
    ]


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
def test_loss_is_the_weighted_mean_of_the_exits(options, layers):
    model, (x, y) = make(), data()
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
        {"tie_embeddings": False},
        {"target_vocabulary_size": 24},
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
    "loss",
    [
        token_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=0
        ),
        keras.losses.MeanSquaredError(),
        "mean_absolute_error",
    ],
    ids=["function", "object", "dense", "name"],
)
@pytest.mark.parametrize("weighted", [False, True])
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


def test_metrics_see_the_last_exit():
    seen = []

    def spy(y_true, y_pred):
        seen.append(y_pred)
        return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)

    model, (x, y) = make(), data()
    trainer = trainer_of(model, metrics=[spy])
    report = trainer.evaluate(x, y, verbose=0, return_dict=True)
    last = np.asarray(model(x))
    np.testing.assert_allclose(seen[-1], last, atol=1e-6)
    assert report["spy"] == pytest.approx((last.argmax(-1) == y).mean())


def test_each_exit_is_reported():
    model, (x, y) = make(), data(batch=5)
    trainer = trainer_of(model, min_exit_layer=1, exit_interval=2)
    report = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert set(report) == {"loss", "exit_1_loss", "exit_3_loss"}
    first, last = costs_of(model, x, y, (1, 3))
    assert report["exit_1_loss"] == pytest.approx(first, rel=1e-5)
    assert report["exit_3_loss"] == pytest.approx(last, rel=1e-5)


def test_reports_add_up_though_the_last_batch_is_smaller():
    model, (x, y) = make(), data(batch=5)
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
def test_curricula_change_the_loss_by_step(options, weights):
    model, (x, y) = make(), data()
    trainer = trainer_of(model, **options)
    costs = costs_of(model, x, y, (1, 2, 3))
    for step, raw in weights.items():
        trainer.optimizer.iterations.assign(step)
        expected = np.dot(raw, costs) / sum(raw)
        assert float(loss_of(trainer, x, y)) == pytest.approx(
            expected, rel=1e-5
        )
        # Evaluation looks at all exits, whatever the step.
        whole = np.dot([1, 2, 3], costs) / 6
        assert float(loss_of(trainer, x, y, training=False)) == pytest.approx(
            whole, rel=1e-5
        )


# === As a whole ===


def test_training_lowers_every_exit_and_is_saved(tmp_path):
    model, (x, y) = make(layers=2), data()
    trainer = EarlyExitTrainer(model, curriculum="rotating")
    trainer.compile(keras.optimizers.Adam(0.02), token_crossentropy)
    before = costs_of(model, x, y, (1, 2))
    history = trainer.fit(x, y, epochs=30, verbose=0).history
    after = costs_of(model, x, y, (1, 2))
    assert (np.array(after) < 0.5 * np.array(before)).all()
    assert len(history["exit_1_loss"]) == 30
    # In the graph, too, the first report is of the model as it was.
    assert history["exit_1_loss"][0] == pytest.approx(before[0], rel=1e-4)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for ours, theirs in zip(
        loaded.exit_states(x, (1, 2)), model.exit_states(x, (1, 2)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


PEAKS = """
import types
import keras, numpy as np
from keras_moe.losses import token_crossentropy
from keras_moe.training import EarlyExitTrainer

EXITS, VOCABULARY, DIM, TOKENS = 8, 20_000, 8, 128

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(
            num_decoder_layers=EXITS, model_dim=DIM
        )
        self.blocks = [keras.layers.Dense(DIM) for _ in range(EXITS)]
        self.head = keras.layers.Dense(VOCABULARY)
        for layer in (*self.blocks, self.head):
            layer.build((None, None, DIM))
        self.built = True
    def exit_states(self, x, layers, training=None):
        states = [x := block(x) for block in self.blocks]
        return [states[layer - 1] for layer in layers]
    def logits(self, hidden):
        return self.head(hidden)

class Straight(EarlyExitTrainer):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return sum(
            weight * token_crossentropy(y, self.model.logits(state))
            for weight, state in zip(self.exit_weights, y_pred, strict=True)
        )

def train(cls, tokens, eager):
    trainer = cls(Model())
    trainer.compile("sgd", token_crossentropy, run_eagerly=eager)
    x = np.random.normal(size=(1, tokens, DIM)).astype("float32")
    trainer.train_on_batch(x, np.ones((1, tokens)))
    return peak()

def peak():
    # Not `ru_maxrss`: that begins at the peak of whoever started the process.
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])

start = train(EarlyExitTrainer, 2, False)
train(EarlyExitTrainer, 2, True)
# The peak of a process only grows: the thriftiest first.
for cls, eager in (
    (EarlyExitTrainer, False), (EarlyExitTrainer, True), (Straight, True)
):
    print((train(cls, TOKENS, eager) - start) / (4 * VOCABULARY * TOKENS))
"""


def test_logits_of_all_exits_are_never_kept():
    ran = subprocess.run(
        [sys.executable, "-c", PEAKS],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    graph, eager, straight = map(float, ran.stdout.split())
    # In units of one exit's logits. All logits at once, and what their
    # gradients need, are several times the number of exits.
    assert straight > 3 * 8
    assert graph < straight / 2
    assert eager < straight / 2


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
def test_errors_come_before_training(options, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        EarlyExitTrainer(model, **options)


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
