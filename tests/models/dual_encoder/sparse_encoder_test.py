"""The sparse encoder of a `SwitchTransformer` as an encoder of texts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe.models import DualEncoder
from keras_moe.models import SwitchTransformer

ROWS, LENGTH = 4, 6


@keras.saving.register_keras_serializable(package="tests")
class TextEncoder(keras.Model):
    """The mean over the encoder's states."""

    def __init__(self, sizes, **kwargs):
        super().__init__(**kwargs)
        self.sizes = sizes
        self.transformer = SwitchTransformer(**sizes)
        self.transformer.decoder.trainable = False
        self.pool = layers.MeanPooling()

    def build(self, input_shape=None):
        self.built = True

    def call(self, token_ids, training=None):
        states, mask = self.transformer.encode(token_ids, training=training)
        return self.pool(states, mask=mask)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return TextEncoder(
        dict(
            vocabulary_size=20,
            model_dim=8,
            hidden_dim=8,
            num_heads=2,
            num_encoder_layers=2,
            num_decoder_layers=1,
            num_experts=2,
            moe_every=2,
            dropout_rate=0.0,
            expert_dropout_rate=0.0,
            jitter_noise=0.0,
        )
    )


@pytest.fixture
def x():
    rng = np.random.default_rng(1)
    texts = rng.integers(2, 20, (2, ROWS, LENGTH))
    texts[:, :, 4:] = 0
    return {"query": texts[0], "document": texts[1]}


def loss_of(model, x):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, None, model(x, training=True))
    variables = model.query_encoder.transformer.encoder.trainable_variables
    gradients = tape.gradient(loss, variables)
    return float(loss), [tf.convert_to_tensor(each) for each in gradients]


def test_keeps_the_losses_of_its_routers(encoder, x):
    model = DualEncoder(encoder)
    model.compile("sgd")
    loss, gradients = loss_of(model, x)
    # A router's two losses, for queries and for documents.
    auxiliary = [float(each) for each in model.losses]
    assert len(auxiliary) >= 2 and min(auxiliary) > 0
    vectors = model(x)
    scores = vectors["query"] @ tf.transpose(vectors["document"]) / 0.05
    values = tf.reduce_logsumexp(scores, 1) - tf.linalg.diag_part(scores)
    expected = float(tf.reduce_mean(values)) + sum(auxiliary)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(each).all() for each in gradients)


def test_a_text_without_a_word_spoils_no_other(encoder, x):
    model = DualEncoder(encoder)
    model.compile("sgd")
    x["query"][1] = x["document"][2] = 0
    loss, gradients = loss_of(model, x)
    assert np.isfinite(loss)
    assert all(np.isfinite(each).all() for each in gradients)
    assert model.negatives_tracker.result() == 2


def test_survives_saving(encoder, x, tmp_path):
    model = DualEncoder(encoder)
    model.compile("sgd", run_eagerly=True)
    model.fit(x, np.arange(ROWS), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, vectors in model(x).items():
        np.testing.assert_array_equal(loaded(x)[name], vectors)
