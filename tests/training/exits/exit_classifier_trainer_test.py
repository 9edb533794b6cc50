"""The learned confidence, trained after the model."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.losses import exit_classifier_loss
from keras_moe.losses._exit_classifier import EXIT_CLASSIFIER_LOSSES
from keras_moe.training import ExitClassifierTrainer
from tests.training.exits.early_exit_case import data
from tests.training.exits.early_exit_case import make

CLASSIFIER = [
    "switch_transformer/exit_classifier/kernel",
    "switch_transformer/exit_classifier/bias",
]


@pytest.fixture
def model():
    return make(exit_classifier=True)


def trainer_of(model, kind="independent", optimizer="sgd"):
    trainer = ExitClassifierTrainer(model, kind)
    trainer.compile(optimizer, run_eagerly=True)
    return trainer


def by_hand(model, x, y, kind):
    """The loss, from NumPy arrays of each layer."""
    states = [np.asarray(s) for s in model.exit_states(x, (1, 2, 3))]
    said = [np.asarray(model.logits(s)).argmax(-1) for s in states]
    kernel, bias = (np.asarray(w) for w in model.exit_classifier.weights)
    logits = np.stack([(s @ kernel + bias)[..., 0] for s in states[:-1]])
    agrees = np.stack([each == said[-1] for each in said[:-1]])
    return agrees, exit_classifier_loss(logits, agrees, y != 0, kind)


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
def test_labels_are_the_models_own(model, kind):
    x, y = data(batch=8, target=6)
    model.exit_classifier.kernel.assign(np.random.normal(size=(16, 1)))
    agrees, expected = by_hand(model, x, y, kind)
    assert 0 < agrees.mean() < 1  # both answers are given
    report = trainer_of(model, kind).evaluate(x, y, verbose=0, return_dict=True)
    assert set(report) == {"loss"}
    assert report["loss"] == pytest.approx(float(expected), rel=1e-5)
    # Which tokens the targets are says nothing, but where padding is.
    for padding in (0, -100):
        others = np.where(y == 0, padding, 2)
        assert trainer_of(model, kind).evaluate(
            x, others, verbose=0
        ) == pytest.approx(float(expected), rel=1e-5)


def test_weights_count(model):
    x, y = data(batch=8, target=6)
    model.exit_classifier.kernel.assign(np.random.normal(size=(16, 1)))
    weights = np.array([0.0, 1.0, 2.0, 0.5, 3.0, 1.0, 0.0, 1.0])
    trainer = trainer_of(model)
    both = [
        trainer.evaluate(x, y, sample_weight=w, verbose=0)
        for w in (weights, 3 - weights)
    ]
    plain = trainer.evaluate(x, y, verbose=0)
    assert both[0] != pytest.approx(plain)
    assert sum(both) == pytest.approx(3 * plain, rel=1e-5)


def test_the_classifier_alone_moves():
    # With everything on that training would draw at random or add.
    model = make(
        exit_classifier=True,
        num_experts=3,
        moe_every=1,
        dropout_rate=0.3,
        layer_dropout_rate=0.5,
        jitter_noise=0.1,
    )
    x, y = data(batch=6)
    trainer = trainer_of(model, optimizer=keras.optimizers.Adam(0.1))
    assert [w.path for w in trainer.trainable_weights] == CLASSIFIER
    before = {v.path: v.numpy() for v in model.variables}
    _, expected = by_hand(model, x, y, "independent")
    history = trainer.fit(x, y, epochs=2, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(expected), rel=1e-4)
    for weight in model.weights:
        same = np.array_equal(weight.numpy(), before[weight.path])
        assert same == (weight.path not in CLASSIFIER), weight.path
    assert not any("seed" in path for path in map(str, history))


def test_the_model_may_be_thawed(model):
    everything = len(model.weights)
    assert model.exit_classifier.trainable_weights == []
    ExitClassifierTrainer(model)
    model.trainable = True
    assert len(model.trainable_weights) == everything


class Toy(keras.Model):
    """Its second layer contradicts the first where coordinate 0 is negative."""

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(
            exit_classifier=True,
            num_decoder_layers=2,
            model_dim=2,
            output_size=2,
            pad_id=0,
            end_id=1,
            start_id=0,
        )
        self.exit_classifier = keras.layers.Dense(1)
        self.exit_classifier.build((None, None, 2))
        self.built = True

    def exit_states(self, x, layers, training=None):
        after = keras.ops.stack(
            [x[..., 0], x[..., 1] * keras.ops.sign(x[..., 0])], axis=-1
        )
        return [(x, after)[layer - 1] for layer in layers]

    def logits(self, hidden):
        return keras.ops.concatenate([hidden[..., 1:], -hidden[..., 1:]], -1)

    def exit_logits(self, hidden):
        return self.exit_classifier(hidden)[..., 0]


@pytest.mark.parametrize("kind", EXIT_CLASSIFIER_LOSSES)
def test_learns_when_the_first_layer_is_right(kind):
    x = np.random.normal(size=(8, 32, 2)).astype("float32")
    # Agreement is rarer than disagreement, and padding says the contrary.
    x[..., 0] = np.where(np.arange(32) % 4 == 0, 1, -1) * np.abs(x[..., 0])
    y = np.ones((8, 32), "int32")
    y[:, -2:] = 0
    toy = Toy()
    trainer = ExitClassifierTrainer(toy, kind)
    trainer.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    data = tf.data.Dataset.from_tensors((x, y)).repeat(10)
    losses = trainer.fit(data, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    said = np.asarray(toy.exit_logits(x)) > 0
    # Near the boundary a finite slope errs.
    clear = np.abs(x[..., 0]) > 0.3
    np.testing.assert_array_equal(said[clear], x[..., 0][clear] > 0)


def test_a_trained_classifier_survives_a_file(model, tmp_path):
    x, y = data()
    trainer_of(model, optimizer=keras.optimizers.SGD(1.0)).fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    state = model.exit_states(x, (1,))[0]
    confidence = np.asarray(loaded.exit_confidence(state))
    np.testing.assert_array_equal(confidence, model.exit_confidence(state))
    assert confidence.shape == y.shape
    assert ((confidence > 0) & (confidence < 1)).all()


@pytest.mark.parametrize(
    ("sizes", "kind", "message"),
    [
        ({}, "independent", "exit_classifier=True.*exit_classifier=False"),
        (
            {"exit_classifier": True, "layers": 1},
            "independent",
            "at least 2 decoder layers.*num_decoder_layers=1",
        ),
        ({"exit_classifier": True}, "focal", "'geometric'.*kind='focal'"),
    ],
)
def test_errors_leave_the_model_as_it_was(sizes, kind, message):
    model = make(**sizes)
    trainable = [w.path for w in model.trainable_weights]
    with pytest.raises(ValueError, match=message):
        ExitClassifierTrainer(model, kind)
    assert [w.path for w in model.trainable_weights] == trainable
