"""What a compiled cascade of two Transformer encoders costs a batch."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_moe
from benchmarks.cascade.classifiers import CLASSES
from benchmarks.cascade.classifiers import Part
from benchmarks.shared.alternating import median_milliseconds
from keras_moe.calibration import DeferralRule

_BATCH, _BATCHES, _SHARE = 32, 40, 0.3
_SIZES = (4, 6, 8, 9, 10, 11, 12, 14, 16, 20, 24)
_SMALL = {"layers": 2, "dim": 128, "heads": 2}
_LARGE = {"layers": 6, "dim": 256, "heads": 4}


def measure(part: Part, rounds: int) -> dict[str, Any]:
    """Times each stage and the cascade, compiled alike, on the same batches.

    The encoders have random weights: answers do not change what they cost. The
    share of deferred rows is that of all batches; in each it is another.
    """
    batches = [
        tf.constant(part.words[start : start + _BATCH])
        for start in range(0, _BATCH * _BATCHES, _BATCH)
    ]
    small, large = _encoder(**_SMALL, seed=1), _encoder(**_LARGE, seed=2)
    rule = DeferralRule()
    scores = np.concatenate([rule.scores(small(batch)) for batch in batches])
    rule = rule.with_threshold(float(np.quantile(scores, 1 - _SHARE)))
    cascade = keras_moe.models.Cascade([small, large], rule, batch_sizes=_SIZES)
    signature = [tf.TensorSpec(batches[0].shape, tf.int32)]
    programs = {
        name: tf.function(
            model, jit_compile=True, input_signature=signature, autograph=False
        )
        for name, model in (
            ("small", small),
            ("large", large),
            ("cascade", cascade),
        )
    }
    asked = [programs["cascade"](batch)["stage"] for batch in batches]
    number = iter(range(10**9))

    def call(name: str) -> Any:
        return lambda: programs[name](batches[next(number) // 3 % _BATCHES])

    times = median_milliseconds({name: call(name) for name in programs}, rounds)
    return {
        **{f"{name}_ms": value for name, value in times.items()},
        "large_over_small": times["large"] / times["small"],
        "latency_over_large_at_30": times["cascade"] / times["large"],
        "deferred_share": float(np.mean(asked)),
        "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)),
    }


def _encoder(layers: int, dim: int, heads: int, seed: int) -> keras.Model:
    """Returns a classifier of ids; of random weights, sure of some rows."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input([None], dtype="int32")
    x = keras.layers.Embedding(601, dim, mask_zero=True)(inputs)
    for _ in range(layers):
        x = keras_moe.layers.EncoderBlock(
            keras_moe.layers.T5Attention(num_heads=heads, key_dim=dim // heads),
            keras_moe.layers.FeedForward(hidden_dim=4 * dim),
        )(x)
    pooled = keras.layers.GlobalAveragePooling1D()(x)
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(pooled)
    return keras.Model(inputs, outputs)
