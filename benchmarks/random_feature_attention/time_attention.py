"""Program: measures time or memory of attention at one length.

A process for each figure of memory, as a process only ever knows its own peak;
a process for each length, whose layers are timed in turns.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared.alternating import seconds_in_turns
from keras_moe.layers import RandomFeatureAttention

NUM_HEADS, KEY_DIM = 8, 64
MODEL_DIM = NUM_HEADS * KEY_DIM
SOFTMAX = "softmax"


def make_layer(name: str) -> keras.layers.Layer:
    """Returns Keras's layer, or ours with `features_NUMBER`."""
    if name == SOFTMAX:
        return keras.layers.MultiHeadAttention(NUM_HEADS, KEY_DIM)
    return RandomFeatureAttention(
        NUM_HEADS,
        KEY_DIM,
        num_random_features=int(name.split("_")[1]),
        exact_below=None,
    )


def make_call(
    name: str, inputs: tf.Tensor, direction: str, compiled: bool
) -> Callable[[], object]:
    """Returns a call of a layer on `inputs`, traced once."""
    layer = make_layer(name)
    layer(inputs[:, :8], inputs[:, :8])

    def forward(x: tf.Tensor) -> tf.Tensor:
        return layer(x, x)

    def both(x: tf.Tensor) -> tuple:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, x, training=True)
            loss = tf.reduce_mean(tf.square(outputs))
        weights = [weight.value for weight in layer.trainable_weights]
        # The outputs are returned, too: TensorFlow leaves out of a graph what
        # nobody asks for.
        return outputs, tape.gradient(loss, [x, *weights])

    function = tf.function(
        forward if direction == "forward" else both,
        jit_compile=compiled,
        autograph=False,
    )
    return lambda: function(inputs)


def peak_bytes() -> int:
    """Returns the greatest memory that this process has had."""
    status = pathlib.Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def resident_bytes() -> int:
    """Returns the memory that this process has now."""
    status = pathlib.Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", nargs="+", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--direction", choices=("forward", "both"))
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (1, options.length, MODEL_DIM)
    inputs = tf.constant(rng.normal(size=shape).astype("float32"))
    if options.memory:
        (name,) = options.layers
        # A short call first: memory that frameworks and code take does not
        # count as the long call's.
        make_call(name, inputs[:, :64], options.direction, options.compiled)()
        call = make_call(name, inputs, options.direction, options.compiled)
        before = resident_bytes()
        call()
        print(json.dumps({name: peak_bytes() - before}))
        return
    calls = {
        name: make_call(name, inputs, options.direction, options.compiled)
        for name in options.layers
    }
    seconds = seconds_in_turns(
        calls, options.rounds, warm_up_rounds=1, clock=time.perf_counter
    )
    print(
        json.dumps(
            {name: statistics.median(each) for name, each in seconds.items()}
        )
    )


if __name__ == "__main__":
    main()
