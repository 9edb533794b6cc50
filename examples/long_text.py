"""A byte-level language model of linear cost, which then streams.

Command:  make wordnet && python examples/long_text.py
Time:     over a minute on two cores
Expected: 3.8 bits a byte of held-out text (byte frequencies alone: 4.4);
          streamed logits are those of the whole pass, to 1e-6, from a state
          of 36,866 numbers at any length
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from data import glosses

import keras_moe

DIM, HEADS, FEATURES = 128, 8, 128
BYTES = 128  # of ASCII
BATCH = 2


class Block(keras.layers.Layer):
    """Causal attention through random features, and a feed-forward layer."""

    def __init__(self):
        super().__init__()
        self.attention = keras_moe.layers.RandomFeatureAttention(
            HEADS,
            DIM // HEADS,
            FEATURES,
            causal=True,
            rotary=True,
            # The error of random features grows with queries and keys: begun
            # at Keras's size, they have one as large as the outputs.
            kernel_initializer=keras.initializers.VarianceScaling(0.2),
        )
        self.norms = [keras.layers.RMSNormalization() for _ in range(2)]
        self.feed_forward = keras_moe.layers.FeedForward(4 * DIM)

    def call(self, x, training=None):
        """Sees a whole sequence, each position what is before it."""
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed, training=training)
        return x + self.feed_forward(self.norms[1](x))

    def step(self, x, state):
        """Sees one position; the state does not grow."""
        attended, state = self.attention.step(self.norms[0](x), state)
        x = x + attended
        return x + self.feed_forward(self.norms[1](x)), state


class LanguageModel(keras.Model):
    """Two blocks between an embedding and a head."""

    def __init__(self):
        super().__init__()
        self.embed = keras.layers.Embedding(BYTES, DIM)
        self.blocks = [Block() for _ in range(2)]
        self.norm = keras.layers.RMSNormalization()
        self.head = keras.layers.Dense(BYTES)

    def call(self, ids, training=None):
        """Gives logits of the next byte at each position."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.norm(x))

    def step(self, ids, states):
        """Gives logits of the byte after these, and the new states."""
        x, new = self.embed(ids), []
        for block, state in zip(self.blocks, states, strict=True):
            x, state = block.step(x, state)
            new.append(state)
        return self.head(self.norm(x)), new


def main() -> None:
    """Trains on long pieces of text, then streams."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    length, steps = (256, 4) if quick else (2048, 100)
    keras.utils.set_random_seed(0)
    text = "\n".join(glosses.load(most=20_000).texts)
    data = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    count = len(data) // (length + 1)
    pieces = data[: count * (length + 1)].reshape(count, length + 1)
    pieces = pieces.astype("int32")
    held_out, train = pieces[:4], pieces[4 : 4 + BATCH * steps]
    shares = np.bincount(data) / len(data)
    entropy = -np.sum(shares * np.log2(np.maximum(shares, 1e-12)))

    model = LanguageModel()
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(train[:, :-1], train[:, 1:], batch_size=BATCH, verbose=2)
    results = model.evaluate(
        held_out[:, :-1],
        held_out[:, 1:],
        batch_size=1,
        verbose=0,
        return_dict=True,
    )
    print(
        f"bits a byte, {length:,} bytes a piece: "
        f"{results['loss'] / np.log(2):.2f} "
        f"(of how often each byte comes: {entropy:.2f})"
    )

    whole = np.array(model(held_out[:1, :-1]))
    states = [block.attention.init_state(1) for block in model.blocks]
    step, steps = tf.function(model.step), min(length, 64)
    logits, states = step(held_out[:1, :1], states)  # traced
    began = time.perf_counter()
    for at in range(1, steps):
        logits, states = step(held_out[:1, at : at + 1], states)
    each = (time.perf_counter() - began) / (steps - 1)
    error = np.abs(np.array(logits)[0, 0] - whole[0, steps - 1]).max()
    size = sum(np.size(x) for x in keras.tree.flatten(states))
    print(
        f"streamed: {1000 * each:.1f} ms a byte, a state of {size:,} numbers "
        f"at any length; largest difference from the whole pass {error:.0e}"
    )


if __name__ == "__main__":
    main()
