"""Small teachers and students, and what they should cost."""

import functools

import keras
import numpy as np
import scipy.special

from keras_moe.models import SwitchTransformer

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(6, 4)).astype("float32")
LABELS = RNG.integers(0, 3, size=6)
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 3.0], "float32")
SOURCE = np.array([[5, 6, 7, 1, 0], [8, 9, 1, 0, 0]])
TARGET = np.array([[4, 5, 6, 1], [7, 1, 0, 0]])
INPUTS = {
    "encoder_token_ids": SOURCE,
    "decoder_token_ids": np.array([[0, 4, 5, 6], [0, 7, 1, 0]]),
}


class Counted(keras.layers.Dense):
    """A layer that knows how often it was called, and with what."""

    calls: list

    def call(self, inputs, training=None):
        self.calls.append(training)
        return super().call(inputs)


def classifier(seed, units=3, dropout=0.0, **kwargs):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    x = Counted(5, activation="tanh", name="hidden", **kwargs)
    x.calls = []
    outputs = keras.layers.Dense(units, name="logits", **kwargs)(
        keras.layers.Dropout(dropout)(x(inputs))
    )
    return keras.Model(inputs, outputs)


def transformer(seed, **sizes):
    keras.utils.set_random_seed(seed)
    return SwitchTransformer.from_preset(
        "switch_tiny",
        **{
            "num_encoder_layers": 1,
            "dropout_rate": 0.0,
            "expert_dropout_rate": 0.0,
            **sizes,
        },
    )


@functools.cache
def teacher_of_all():
    """To read alone."""
    return transformer(0)


def pair(**sizes):
    return teacher_of_all(), transformer(1, num_experts=0, **sizes)


def compiled(distiller, **kwargs):
    """Compiles without tracing, which takes longer than these small sums."""
    options = {"run_eagerly": True, "jit_compile": False, **kwargs}
    distiller.compile(keras.optimizers.SGD(0.1), **options)
    return distiller


def crossentropy(labels, logits):
    log_p = scipy.special.log_softmax(logits.astype("float64"), axis=-1)
    return -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]


def divergence(teacher, student, temperature=1.0):
    p, q = (
        scipy.special.softmax(x.astype("float64") / temperature, axis=-1)
        for x in (teacher, student)
    )
    return temperature**2 * scipy.special.rel_entr(p, q).sum(axis=-1)


def evaluate(distiller, x, y=None, sample_weight=None):
    return distiller.evaluate(
        x, y, sample_weight=sample_weight, return_dict=True, verbose=0
    )
