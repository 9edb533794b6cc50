"""A masked language model whose experts choose their tokens, beside Switch.

Command:  make wordnet && python examples/expert_choice_encoder.py
Time:     under a minute on two cores
Expected: on held-out texts a spread of the experts' loads of 0.00 by expert
          choice, of 0.37 by Switch. So short a training learns little: 12 % of
          the hidden words are guessed by either (the commonest is 10 % of them)
"""

import argparse

import keras
import numpy as np
from data import glosses
from keras import ops

import keras_moe

LENGTH, WORDS, DIM, HEADS = 24, 1_000, 128, 4
MASK = 1  # TextVectorization's id of unknown words


def make_model(router: str) -> keras.Model:
    """An encoder of two blocks, the second sparse."""
    ids = keras.Input((LENGTH,), dtype="int64")
    x = keras.layers.Embedding(WORDS, DIM, mask_zero=True)(ids)
    near = keras_moe.layers.RelativePositionBias(HEADS, max_distance=LENGTH)
    bias = near(ops.arange(LENGTH), ops.arange(LENGTH))
    for feed_forward in (
        keras_moe.layers.FeedForward(2 * DIM),
        keras_moe.layers.SparseMoE(8, 2 * DIM, router=router, name="moe"),
    ):
        attention = keras_moe.layers.T5Attention(HEADS, DIM // HEADS)
        block = keras_moe.layers.EncoderBlock(attention, feed_forward, 0.1)
        x = block(x, bias=bias)
    x = keras.layers.LayerNormalization()(x)
    return keras.Model(ids, keras.layers.Dense(WORDS)(x))


def mask(
    ids: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hides one word in seven: inputs, what to say, and where it counts."""
    hidden = (rng.random(ids.shape) < 1 / 7) & (ids > MASK)
    return np.where(hidden, MASK, ids), ids, hidden.astype("float32")


def main() -> None:
    """Trains with both routers, and prints what they guess."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    read = glosses.load(most=2_000 if quick else 12_000)
    held_out = len(read.texts) // 10
    tokens = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH
    )
    tokens.adapt(read.texts[held_out:])
    ids = tokens(read.texts).numpy()
    rng = np.random.default_rng(0)
    test, train = mask(ids[:held_out], rng), mask(ids[held_out:], rng)
    for router in ("switch", "expert_choice"):
        keras.utils.set_random_seed(0)
        model = make_model(router)
        model.compile(
            keras.optimizers.Adam(2e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=["accuracy"],
        )
        model.fit(
            *train[:2],
            sample_weight=train[2],
            batch_size=128,
            epochs=1 if quick else 4,
            verbose=2,
        )
        results = model.evaluate(
            *test[:2],
            sample_weight=test[2],
            batch_size=128,
            verbose=0,
            return_dict=True,
        )
        load = next(results[n] for n in results if n.endswith("load_cv"))
        print(
            f"{router}: {results['accuracy']:.1%} of the hidden words guessed; "
            f"spread of the experts' loads {load:.2f}"
        )


if __name__ == "__main__":
    main()
