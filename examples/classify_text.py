"""A Switch classifier of real text, beside a dense one of the same arithmetic.

Command:  make wordnet && python examples/classify_text.py
Time:     half a minute on two cores
Expected: no gain from experts on a text this short: the dense model gets about
          65 % right, the sparse one, whose experts see an eighth of the words
          each, 61 % after as many steps (the commonest topic: 12 %)
"""

import argparse

import keras
from data import glosses

import keras_moe

LENGTH, WORDS, DIM, HIDDEN = 24, 20_000, 128, 256


def make_model(
    tokens: keras.layers.TextVectorization, sparse: bool
) -> keras.Model:
    """A bag of transformed words, whose one big layer is sparse or dense."""
    ids = keras.Input((LENGTH,), dtype="int64")
    size = tokens.vocabulary_size()
    x = keras.layers.Embedding(size, DIM, mask_zero=True)(ids)
    feed_forward = (
        keras_moe.layers.SparseMoE(8, HIDDEN, name="moe")
        if sparse
        else keras_moe.layers.FeedForward(HIDDEN)
    )
    x = keras.layers.Add()([x, feed_forward(x)])  # `+` would lose the mask
    x = keras_moe.layers.MeanPooling()(x)
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(ids, keras.layers.Dense(glosses.TOPICS)(x))


def main() -> None:
    """Trains both, and prints what they get right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    read = glosses.load(most=3000 if quick else 40_000)
    held_out = len(read.texts) // 10
    tokens = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH
    )
    tokens.adapt(read.texts[held_out:])
    x, y = tokens(read.texts).numpy(), read.topics
    for name, sparse in (("dense", False), ("sparse", True)):
        keras.utils.set_random_seed(0)
        model = make_model(tokens, sparse)
        model.compile(
            keras.optimizers.Adam(2e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(
            x[held_out:],
            y[held_out:],
            batch_size=256,
            epochs=1 if quick else 3,
            verbose=2,
        )
        results = model.evaluate(
            x[:held_out],
            y[:held_out],
            batch_size=256,
            verbose=0,
            return_dict=True,
        )
        print(
            f"{name}: {model.count_params():,} weights, "
            f"{results['accuracy']:.1%} right"
        )
        if sparse:
            print(
                f"load of the experts: {results['moe/expert_load_cv']:.2f} "
                "(0: all alike)"
            )


if __name__ == "__main__":
    main()
