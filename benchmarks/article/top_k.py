"""A small Transformer of digits with a sixteenth of its neurons."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.article.digits import Part
from benchmarks.article.digits import load
from benchmarks.article.retrained import Retrained
from keras_moe import layers

_WIDTH, _K, _EPOCHS = 256, 16, 30
_RATES = (1e-3, 3e-3)


def compare(seeds: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """Trains with all neurons and with the largest of each token.

    Returns:
        For either: the accuracy on the test part at the rate that validation
        chose, mean over the seeds; the share of zeros; the seconds a training.
    """
    train, validation, test = load()
    figures: dict[str, Any] = {}
    for name, k in (("dense", _WIDTH), ("topk", _K)):
        runs = Retrained(
            lambda k=k: _model(k),
            keras.optimizers.Adam(),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

        scores = []
        for rate in _RATES:
            runs.fit(0, rate, *train, batch_size=50, epochs=_EPOCHS)
            scores.append(_evaluate(runs, validation)[0])
        rate = _RATES[int(np.argmax(scores))]
        found, seconds = [], []
        for seed in seeds:
            start = time.process_time()
            runs.fit(seed, rate, *train, batch_size=50, epochs=_EPOCHS)
            seconds.append(time.process_time() - start)
            found.append(_evaluate(runs, test))
        figures |= {
            f"{name}_accuracy": float(np.mean(found, axis=0)[0]),
            f"{name}_zeros": float(np.mean(found, axis=0)[1]),
            f"{name}_rate": rate,
            f"{name}_training_seconds": float(np.mean(seconds)),
        }
    return figures


def _evaluate(runs: Retrained, part: Part) -> tuple[float, float]:
    """Returns the accuracy, and the share of zeros over all layers."""
    found = runs.trainer.evaluate(
        *part, verbose=0, batch_size=300, return_dict=True
    )
    zeros = [value for name, value in found.items() if "sparsity" in name]
    return found["accuracy"], float(np.mean(zeros))


def _model(k: int) -> keras.Model:
    inputs = keras.Input((64,))
    x = keras.layers.Reshape((8, 8))(inputs)  # each row of an image is a token
    x = keras.layers.EinsumDense("btd,tdm->btm", (8, 32), bias_axes="tm")(x)
    for _ in range(2):
        x = layers.EncoderBlock(
            layers.T5Attention(num_heads=2, key_dim=16),
            layers.FeedForward(_WIDTH, layers.TopKActivation(k)),
        )(x)
    x = keras.layers.Flatten()(keras.layers.RMSNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))
