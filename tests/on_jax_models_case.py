"""Models that Keras trains for two steps, on any backend alike."""

import keras
import numpy as np

from keras_moe import layers
from keras_moe import losses
from keras_moe import models
from keras_moe import ops
from keras_moe import optimizers
from keras_moe import training

ROWS, LENGTH, DIM, IDS = 4, 5, 8, 12
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(ROWS, DIM)).astype("float32")
SEQUENCES = _RNG.normal(size=(ROWS, LENGTH, DIM)).astype("float32")
TOKENS = _RNG.integers(3, IDS, (ROWS, LENGTH)).astype("int32")
# The last row is shorter.
TOKENS[-1, 3:] = 0


def early_exits():
    """A whole model whose every decoder layer is trained to be the last."""
    model = models.SwitchTransformer(
        vocabulary_size=IDS,
        model_dim=DIM,
        hidden_dim=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=2,
        num_experts=2,
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
        jitter_noise=0.0,
    )
    trainer = training.EarlyExitTrainer(model)
    trainer.compile("sgd", losses.token_crossentropy)
    inputs = {
        "encoder_token_ids": TOKENS,
        "decoder_token_ids": np.array(ops.shift_right(TOKENS)),
    }
    return trainer, inputs, TOKENS


def dual_encoder():
    """A search, whose rows are each other's negatives."""
    inputs = keras.Input((DIM,))
    encoder = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    model = models.DualEncoder(encoder)
    model.compile("sgd")
    return model, {"query": X, "document": X[:, ::-1]}, np.array([1, 2, 3, 1])


def scale_invariant():
    """An encoder by an optimizer that clips relative to the weights."""
    inputs = keras.Input((LENGTH, DIM))
    x = keras.layers.Dense(DIM, use_bias=False)(inputs)
    x = keras.layers.LayerNormalization(epsilon=1e-20)(x)
    x = keras.layers.Dense(DIM, use_bias=False)(x)
    x = layers.ScaleInvariantBlock(2, 4, 16)(x)
    model = keras.Model(inputs, x)
    model.compile(optimizers.RelativeClipSGD(0.3, weight_decay=3e-3), "mse")
    return model, SEQUENCES, 10 * SEQUENCES


FITS = {
    "early_exits": early_exits,
    "dual_encoder": dual_encoder,
    "scale_invariant": scale_invariant,
}


def run(name, weights=None):
    """Returns the weights that a fit begins with, and what it comes to."""
    keras.utils.set_random_seed(0)
    model, x, y = FITS[name]()
    # Graphs of TensorFlow take longer to trace than two steps do.
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    if not model.built:
        model.build(keras.tree.map_structure(np.shape, x))
    if weights is not None:
        model.set_weights(list(weights.values()))
    weights = {str(n): w for n, w in enumerate(model.get_weights())}
    found = {
        f"loss {step}": model.train_on_batch(x, y, return_dict=True)["loss"]
        for step in range(2)
    }
    after = {f"after {n}": w for n, w in enumerate(model.get_weights())}
    return weights, found | after
