"""Program: times `keras_moe.layers.SparseMoE` for `benchmarks.moe_layer`.

A process of its own, as the peers have: each number of experts starts with
the memory of a fresh process.
"""

import itertools
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import tensorflow as tf

from benchmarks.moe_layer.task import CAPACITY_FACTOR
from benchmarks.moe_layer.task import DENSE
from benchmarks.moe_layer.task import Task
from benchmarks.moe_layer.task import answer
from benchmarks.moe_layer.task import over_dense
from benchmarks.moe_layer.task import read_task
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter

# The layer as users get it: the preset, with the whole batch as one group.
_PRESET = {
    name: {"dispatch": name, "router": "switch"}
    for name in ("gather", "ragged")
}
_FRESH = "ragged_fresh"


def make_layers(task: Task) -> dict[str, keras.layers.Layer]:
    """Returns the dense layer and the sparse ones, built."""
    # The layer as the peers route: a group for each sequence, no jitter (theirs
    # is off by default or not usable here), and their capacity.
    as_peers = {
        "capacity_factor": CAPACITY_FACTOR,
        "min_expert_capacity": 1,
        "capacity_rounding": "nearest",
        "group_size": task.length,
        "jitter_noise": 0.0,
    }
    variants = _PRESET | {
        f"{name}_sequences": {
            "dispatch": name,
            "router": SwitchRouter(**as_peers),
        }
        for name in ("gather", "ragged", "einsum")
    }
    dense = keras.Sequential(
        [
            keras.layers.Dense(
                task.hidden_dim, activation="relu", use_bias=False
            ),
            keras.layers.Dense(task.dim, use_bias=False),
        ]
    )
    layers = {DENSE: dense} | {
        name: SparseMoE(
            task.experts,
            task.hidden_dim,
            # Values of kernels do not change the time; zeros are drawn fastest.
            kernel_initializer="zeros",
            **arguments,
        )
        for name, arguments in variants.items()
    }
    for name, layer in layers.items():
        layer.build((None, None, task.dim))
        if name != DENSE:
            layer.router.kernel.assign(task.router_kernel())
    return layers


def make_calls(
    layers: dict[str, keras.layers.Layer], task: Task
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Returns, for each phase, the functions to time."""
    tokens = tf.constant(task.tokens())
    gradient = tf.constant(task.output_gradient())
    phases: dict[str, dict[str, Callable[[], Any]]] = {
        "forward": {},
        "forward_backward": {},
    }
    for name, layer in layers.items():
        for phase, make in (
            ("forward", _forward),
            ("forward_backward", _backward),
        ):
            call = make(layer, gradient)
            phases[phase][name] = lambda call=call: call(tokens)
    # Each call gets other tokens, as in training: TensorFlow's library of
    # products compiles one for each new shape, and ragged rows have new shapes
    # whenever tokens change.
    batches = itertools.cycle(
        tf.random.stateless_normal(tokens.shape, (seed, 0)) for seed in range(8)
    )
    fresh = _backward(layers["ragged"], gradient)
    phases["forward_backward"][_FRESH] = lambda: fresh(next(batches))
    return phases


def _forward(layer, gradient):
    return tf.function(lambda tokens: layer(tokens, training=True))


def _backward(layer, gradient):
    @tf.function
    def call(tokens):
        with tf.GradientTape() as tape:
            tape.watch(tokens)
            outputs = layer(tokens, training=True)
            losses = list(layer.losses)
        weights = [weight.value for weight in layer.trainable_weights]
        gradients = tape.gradient(
            [outputs, *losses],
            [tokens, *weights],
            [gradient, *(tf.ones_like(loss) for loss in losses)],
        )
        # Without the outputs TensorFlow would leave out the dense layer's last
        # product, a sixth of its work: its gradients do not need it.
        return outputs, gradients

    return call


def make_traffic(layer: SparseMoE) -> dict[str, Callable[[], Any]]:
    """Returns functions that read, and write, each kernel once, no more."""
    kernels = [
        weight
        for weight in layer.experts.trainable_weights
        if len(weight.shape) == 3
    ]
    zero = tf.Variable(0.0, trainable=False)
    return {
        "read": tf.function(
            lambda: [tf.reduce_max(kernel) for kernel in kernels]
        ),
        # The zero is a variable, so that the array is made in every call.
        "write": tf.function(
            lambda: [tf.fill(kernel.shape, zero) for kernel in kernels]
        ),
    }


def main() -> None:
    """Times all executors against a dense layer of equal arithmetic."""
    task = read_task()
    tf.config.threading.set_intra_op_parallelism_threads(task.threads)
    tf.config.threading.set_inter_op_parallelism_threads(task.threads)
    keras.utils.set_random_seed(0)
    layers = make_layers(task)
    phases = make_calls(layers, task)
    figures: dict[str, Any] = {
        phase: over_dense(calls, task.rounds) for phase, calls in phases.items()
    }
    dense = phases["forward_backward"][DENSE]
    figures["traffic"] = over_dense(
        {DENSE: dense, **make_traffic(layers["gather"])}, task.rounds
    )
    for name in ("gather", "gather_sequences"):
        lost = layers[name].router.trackers["fraction_tokens_left_behind"]
        figures[f"kept_{name}"] = 1.0 - float(lost.result())
    answer({**figures, "version": tf.__version__})


if __name__ == "__main__":
    main()
