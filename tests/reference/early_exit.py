"""Early exit (arXiv:2207.07061), row by row, token by token, without caches.

The layers are the model's own, called on all positions anew for each token.
They are compiled one by one, as a matter of speed.
"""

import functools

import numpy as np
import tensorflow as tf

from tests.reference.sampling import softmax


def threshold_at(threshold, position, max_length, decay=None, temperature=4.0):
    """Equation 5, or what T5X made of it; above 1 is never."""
    if decay is None or threshold > 1:
        return threshold
    falling = np.exp(-temperature * position / max_length) / 10
    if decay == "t5x":
        return threshold * (0.9 + falling)
    return min(max(0.9 * threshold + falling, 0.0), 1.0)


def measure(model, kind, before, after, shortlist=None):
    """How sure the model is after a layer, in float64."""
    if kind == "state":
        a, b = np.float64(before).ravel(), np.float64(after).ravel()
        return a @ b / np.sqrt((a @ a) * (b @ b))
    if kind == "classifier":
        hidden = np.float64(model.decoder.final_norm(after)).ravel()
        kernel, bias = (np.float64(w) for w in model.exit_classifier.weights)
        return 1 / (1 + np.exp(-(hidden @ kernel[:, 0] + bias[0])))
    p = softmax(logits_of(model, after)[:shortlist])
    if kind == "softmax":
        second, first = np.sort(p)[-2:]
        return first - second
    return 1 + (p * np.log(p)).sum() / np.log(len(p))


@functools.cache
def head(model):
    return tf.function(
        lambda state: model.logits(model.decoder.final_norm(state)),
        autograph=False,
    )


def logits_of(model, state):
    return np.float64(head(model)(state)).ravel()


@functools.cache
def layer_function(model, layer):
    """Of all positions' inputs the last position's output."""
    block = model.decoder.blocks[layer - 1]

    def run_layer(x, memory, memory_mask):
        positions = tf.range(tf.shape(x)[1])
        bias = model.decoder.bias(positions, positions)
        normed = block.around_self_attention.norm(x)
        attended = block.self_attention(
            normed,
            normed,
            use_causal_mask=True,
            bias=bias,
        )
        x = (x + attended)[:, -1:]
        attended = block.cross_attention(
            block.around_cross_attention.norm(x),
            memory,
            value_mask=memory_mask,
        )
        x = x + attended
        normed = block.around_feed_forward.norm(x)
        return x + block.feed_forward(normed, mask=None)

    size = model.config.model_dim
    sequence = tf.TensorSpec((1, None, size), tf.float32)
    mask = tf.TensorSpec((1, None), tf.bool)
    return tf.function(
        run_layer,
        input_signature=[sequence, sequence, mask],
        autograph=False,
    )


def decode_row(
    model,
    source,
    max_length,
    kind,
    thresholds,
    exits=None,
    shortlist=None,
):
    """Greedy tokens of one row, until it ends.

    Args:
        source: ids, without padding.
        thresholds: one a position.
        exits: layers that tokens may leave after, counted from 1.

    Returns:
        Tokens, exit layers, confidences and log probabilities, lists of one
        length.
    """
    config, last = model.config, len(model.decoder.blocks)
    exits = range(1, last) if exits is None else exits
    memory, memory_mask = model.encode(tf.constant([source]))
    token = config.start_id
    # Of each position the input of each layer that was run, and the output
    # of the last of them.
    states, depths = [], []
    tokens, confidences, scores = [], [], []
    for position in range(max_length):
        own = [model.embed(tf.constant([[token]]))]
        states.append(own)
        sure = 0.0
        for layer in range(1, last + 1):
            inputs = [s[min(layer, len(s)) - 1] for s in states]
            output = layer_function(model, layer)(
                tf.concat(inputs, axis=1),
                memory,
                memory_mask,
            )
            own.append(output)
            if layer == last or layer not in exits:
                continue
            sure = measure(model, kind, own[-2], own[-1], shortlist)
            if sure >= thresholds[position]:
                break
        depths.append(layer)
        confidences.append(sure)
        logits = logits_of(model, own[-1])
        logits[config.pad_id] = -1e9
        token = int(np.argmax(logits))
        scores.append(np.log(softmax(logits)[token]))
        tokens.append(token)
        if token == config.end_id:
            break
    return tokens, depths, confidences, scores
