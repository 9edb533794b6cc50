"""A deep autoencoder of digits, by LocoProp and by its base optimizer."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.article.digits import load
from benchmarks.article.retrained import Retrained
from keras_moe.training import LocoProp

_SIZES = (64, 48, 24, 8, 24, 48, 64)
_EPOCHS = 40
_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
_ACTIVATION_RATES = (0.1, 1.0)


def compare(seeds: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """Trains both for as many batches, with settings that validation chose.

    Returns:
        The loss on the test part, summed over pixels, mean over the seeds; the
        seconds of a training; the settings.
    """
    train, validation, test = (part.images for part in load())
    figures: dict[str, Any] = {}
    kinds = {
        "rmsprop": {"rmsprop": None},
        "locoprop": {
            rate: lambda model, rate=rate: LocoProp(
                model, activation_learning_rate=rate
            )
            for rate in _ACTIVATION_RATES
        },
    }
    for name, variants in kinds.items():
        tried = []
        for key, around in variants.items():
            runs = Retrained(
                _model, keras.optimizers.RMSprop(), around, loss=_summed
            )
            for rate in _RATES:
                _fit(runs, train, 0, rate)
                loss = runs.trainer.evaluate(
                    validation, validation, 300, verbose=0
                )
                tried.append((loss, rate, key, runs))
        _, rate, key, runs = min(tried, key=lambda each: each[0])
        found, seconds = [], []
        for seed in seeds:
            start = time.process_time()
            _fit(runs, train, seed, rate)
            seconds.append(time.process_time() - start)
            found.append(runs.trainer.evaluate(test, test, 300, verbose=0))
        figures |= {
            f"{name}_loss": float(np.mean(found)),
            f"{name}_training_seconds": float(np.mean(seconds)),
            f"{name}_rate": rate,
        }
        if key in _ACTIVATION_RATES:
            figures[f"{name}_activation_rate"] = key
    return figures


def _fit(runs: Retrained, images: np.ndarray, seed: int, rate: float) -> None:
    runs.fit(seed, rate, images, images, batch_size=100, epochs=_EPOCHS)


def _summed(y: Any, outputs: Any) -> Any:
    pixels = keras.ops.binary_crossentropy(y, outputs)
    return keras.ops.sum(pixels, axis=-1)


def _model() -> keras.Model:
    inner = [keras.layers.Dense(n, activation="tanh") for n in _SIZES]
    last = keras.layers.Dense(64, activation="sigmoid")
    return keras.Sequential([keras.Input((64,)), *inner, last])
