"""A smooth function of few numbers: a memory of its regions, or a network."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.article.retrained import Retrained
from keras_moe.layers import SketchMemory

_ROWS, _DIM, _EPOCHS = 10_000, 10, 6
_RATES = (3e-3, 1e-2, 3e-2)


def compare(seeds: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """Fits both, each with the rate that validation chose.

    Returns:
        The mean squared error on the test part, of a function of variance one;
        and that of the inputs alone, by a linear layer.
    """
    (x, y), validation, test = _parts()
    figures: dict[str, Any] = {}
    for name, make in (
        ("memory", lambda: SketchMemory(256, num_tables=4)),
        ("units", lambda: keras.layers.Dense(32, activation="relu")),
        ("linear", lambda: keras.layers.Activation("linear")),
    ):
        runs = Retrained(
            lambda make=make: _model(make()),
            keras.optimizers.Adam(),
            loss="mse",
        )
        scores = []
        for rate in _RATES:
            runs.fit(0, rate, x, y, batch_size=200, epochs=_EPOCHS)
            scores.append(
                runs.trainer.evaluate(*validation, batch_size=500, verbose=0)
            )
        rate = _RATES[int(np.argmin(scores))]
        found = []
        for seed in seeds:
            runs.fit(seed, rate, x, y, batch_size=200, epochs=_EPOCHS)
            found.append(
                runs.trainer.evaluate(*test, batch_size=500, verbose=0)
            )
        figures |= {f"{name}_mse": float(np.mean(found)), f"{name}_rate": rate}
    return figures


def _parts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns rows on a surface of three dimensions among ten."""
    generator = np.random.default_rng(0)
    inner = generator.normal(size=(_ROWS + 4000, 3))
    turn, _ = np.linalg.qr(generator.normal(size=(_DIM, _DIM)))
    x = inner @ turn[:3]
    y = np.sin(2 * inner[:, :1]) + np.cos(inner[:, 1:2] * inner[:, 2:])
    x, y = x.astype("float32"), ((y - y.mean()) / y.std()).astype("float32")
    ends = (0, _ROWS, _ROWS + 2000, _ROWS + 4000)
    return [
        (x[start:end], y[start:end])
        for start, end in zip(ends[:-1], ends[1:], strict=True)
    ]


def _model(layer: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((_DIM,))
    return keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
