"""Runs the TensorFlow Model Garden's layer; started by `peer_layers_test`."""

import sys

import numpy as np
import tensorflow as tf

from benchmarks.moe_layer.tf_models_moe import moe


def main(source: str, target: str) -> None:
    """Reads arrays, computes outputs and gradients, writes them."""
    given = dict(np.load(source))
    experts, _, hidden_dim = given["wi"].shape
    length = given["tokens"].shape[1]
    layer = moe.MoeLayer(
        moe.FeedForwardExperts(experts, hidden_dim, activation=tf.nn.relu),
        moe.ExpertsChooseMaskedRouter(
            experts, use_bias=False, export_metrics=False
        ),
        # `int(round(factor * tokens / experts))` slots.
        train_capacity_factor=float(given["capacity"]) * experts / length,
        examples_per_group=1.0,
    )
    tokens = tf.constant(given["tokens"])
    layer(tokens, training=True)
    weights = {
        "kernel": layer._router.router_weights.kernel,
        "wi": layer._experts.intermediate_layer.kernel,
        "wo": layer._experts.output_layer.kernel,
    }
    for name, weight in weights.items():
        weight.assign(given[name])
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        outputs = layer(tokens, training=True)
    gradients = tape.gradient(
        outputs, {"tokens": tokens, **weights}, given["gradient"]
    )
    np.savez(target, outputs=outputs, **gradients)


if __name__ == "__main__":
    main(*sys.argv[1:])
