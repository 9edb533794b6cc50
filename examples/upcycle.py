"""A dense model made sparse, trained on, beside the dense one trained on.

Command:  make wordnet && python examples/upcycle.py
Time:     under a minute on two cores
Expected: the same answers at first, to 1e-5; trained on, both get about 64 %
          right: on so little text more experts bring no gain
"""

import argparse

import keras
import numpy as np
from data import glosses

import keras_moe

LENGTH, WORDS, DIM = 24, 20_000, 128


def make_dense(words: int) -> keras.Model:
    """A classifier of plain Keras layers."""
    ids = keras.Input((LENGTH,), dtype="int64")
    x = keras.layers.Embedding(words, DIM, mask_zero=True)(ids)
    for _ in range(2):
        hidden = keras.layers.Dense(2 * DIM, activation="relu")(x)
        x = keras.layers.Add()([x, keras.layers.Dense(DIM)(hidden)])
    x = keras_moe.layers.MeanPooling()(x)
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(ids, keras.layers.Dense(glosses.TOPICS)(x))


def compile_model(model: keras.Model) -> None:
    """Compiles as both trainings do."""
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def main() -> None:
    """Trains a dense model, makes it sparse, and trains both on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    keras.utils.set_random_seed(0)
    read = glosses.load(most=3000 if quick else 40_000)
    held_out = len(read.texts) // 10
    tokens = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH
    )
    tokens.adapt(read.texts[held_out:])
    x, y = tokens(read.texts).numpy(), read.topics
    train, test = (x[held_out:], y[held_out:]), (x[:held_out], y[:held_out])

    dense = make_dense(tokens.vocabulary_size())
    compile_model(dense)
    dense.fit(*train, batch_size=256, epochs=2, verbose=2)
    sparse, report = keras_moe.conversion.upcycle(
        dense, num_experts=8, seed=0, return_report=True
    )
    print(report)
    difference = np.abs(sparse(x[:64]) - dense(x[:64])).max()
    print(f"largest difference of the first answers: {difference:.0e}")

    for name, model in (("dense", dense), ("sparse", sparse)):
        compile_model(model)
        model.fit(*train, batch_size=256, epochs=1 if quick else 2, verbose=2)
        results = model.evaluate(
            *test, batch_size=256, verbose=0, return_dict=True
        )
        print(
            f"{name}, trained on: {model.count_params():,} weights, "
            f"{results['accuracy']:.1%} right"
        )


if __name__ == "__main__":
    main()
