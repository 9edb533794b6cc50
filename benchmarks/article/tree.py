"""Trees of keys: what they cost over length, and what they learn."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared.alternating import seconds_in_turns
from keras_moe import conversion
from keras_moe.layers import TreeAttention

LENGTHS = (1024, 2048, 4096, 8192)
_DIM, _HEADS, _KEY = 64, 2, 32
_CLUSTERS, _TOKENS = 8, 64


def times(rounds: int) -> dict[str, Any]:
    """Times compiled layers; gives exponents of length, and milliseconds."""
    functions, names = {}, ("tree", "softmax")
    for name in names:
        layer = (
            TreeAttention(_HEADS, _KEY, height=5)
            if name == "tree"
            else keras.layers.MultiHeadAttention(_HEADS, _KEY)
        )
        for length in LENGTHS:
            x = tf.random.normal((1, length, _DIM), seed=length)
            run = tf.function(
                lambda x, layer=layer: layer(x, x),
                jit_compile=True,
                autograph=False,
            ).get_concrete_function(x)
            functions[name, length] = lambda run=run, x=x: run(x).numpy()
    # Others use the machine, too: the process's own seconds.
    seconds = seconds_in_turns(functions, rounds, 2, time.process_time)
    figures: dict[str, Any] = {}
    for name in names:
        medians = [float(np.median(seconds[name, n])) for n in LENGTHS]
        slope = np.polyfit(np.log(LENGTHS), np.log(medians), 1)[0]
        figures[f"{name}_time_exponent"] = float(slope)
        figures |= {
            f"{name}_ms_{n}": 1000 * value
            for n, value in zip(LENGTHS, medians, strict=True)
        }
    return figures


def clusters(steps: int = 400) -> dict[str, Any]:
    """Learns to tell the mean over the tokens that resemble a token.

    Returns:
        Mean squared errors over the variance, on test data: of softmax
        attention, of trees that it was turned into and grown, and of trees
        that were trained from nothing.
    """
    train, test = _data(steps * 32, 1), _data(1000, 2)
    dense = _compiled(_model())
    dense.fit(*train, verbose=0)
    tree = dense
    for name in ("upper", "lower"):
        tree = _compiled(
            conversion.tree_attention(tree, [name], height=4, grown_height=1)
        )
        layer = tree.get_layer(name)
        tree.fit(*_part(train, 4), verbose=0)
        while layer.grown_height < layer.height:
            layer.grow()
            tree.fit(*_part(train, 4), verbose=0)
    fresh = _compiled(conversion.tree_attention(_model(), height=4))
    for model in (fresh, longer := _compiled(_model())):
        for _ in range(3):  # as many batches as the grown tree and its start
            model.fit(*train, verbose=0)
    return {
        "softmax_error": longer.evaluate(*test, verbose=0),
        "grown_tree_error": tree.evaluate(*test, verbose=0),
        "fresh_tree_error": fresh.evaluate(*test, verbose=0),
    }


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((_TOKENS, _CLUSTERS + 1))
    x = keras.layers.Dense(32)(inputs)
    for name in ("lower", "upper"):
        attended = keras.layers.MultiHeadAttention(2, 16, name=name)(x, x)
        x = keras.layers.Add()([x, attended])
        hidden = keras.layers.Dense(64, activation="relu")(x)
        x = keras.layers.Add()([x, keras.layers.Dense(32)(hidden)])
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def _compiled(model: keras.Model) -> keras.Model:
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    return model


def _part(data: Sequence[np.ndarray], share: int) -> tuple[np.ndarray, ...]:
    return tuple(each[: len(each) // share] for each in data)


def _data(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens of clusters with a number each, and mean numbers."""
    generator = np.random.default_rng(seed)
    cluster = generator.integers(0, _CLUSTERS, (rows, _TOKENS))
    member = np.eye(_CLUSTERS, dtype="float32")[cluster]
    number = generator.normal(size=(rows, _TOKENS, 1)).astype("float32")
    noise = 0.2 * generator.normal(size=member.shape)
    x = np.concatenate([member + noise, number], axis=-1).astype("float32")
    sums = np.swapaxes(member, 1, 2) @ number
    counts = np.maximum(member.sum(axis=1)[..., np.newaxis], 1)
    y = member @ (sums / counts)
    return x, y / y.std()
