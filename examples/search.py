"""From a meaning to its word: a dual encoder, and an index inside the model.

Command:  make wordnet && python examples/search.py "a shop that sells meat"
Time:     half a minute on two cores
Expected: a certified recall of 0.9 of the index; the right word, of 40,000,
          in the best ten for 14 % of the held-out meanings; for the query above
          "butcher shop, meat market" among five words
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from data import glosses

import keras_moe

LENGTH, WORDS, DIM = 24, 50_000, 128


def main() -> None:
    """Trains, indexes, tunes, exports, asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("query", nargs="?", default="a shop that sells meat")
    parser.add_argument("--quick", action="store_true", help="a short run")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    read = glosses.load(most=12_000 if options.quick else 40_000)
    held_out = len(read.texts) // 20
    tokens = keras.layers.TextVectorization(
        max_tokens=WORDS, output_sequence_length=LENGTH
    )
    # All words are known beforehand; the glosses of the held-out are not.
    tokens.adapt(np.concatenate([read.texts[held_out:], read.words]))
    meanings, words = tokens(read.texts).numpy(), tokens(read.words).numpy()

    ids = keras.Input((LENGTH,), dtype="int64")
    table = keras.layers.Embedding(
        tokens.vocabulary_size(), DIM, mask_zero=True
    )
    encoder = keras.Model(ids, keras_moe.layers.MeanPooling()(table(ids)))
    model = keras_moe.models.DualEncoder(encoder, temperature=0.05)
    model.compile(keras.optimizers.Adam(2e-3))
    model.fit(
        {"query": meanings[held_out:], "document": words[held_out:]},
        np.arange(held_out, len(words)),
        batch_size=512,
        epochs=1 if options.quick else 5,
        verbose=2,
    )

    documents = model.encode_documents(words)
    index = keras_moe.retrieval.BlockIndex(
        documents, np.arange(len(words)), k=10
    )
    # One half of the held-out queries tunes the index, the other is a test.
    queries = model.encode_queries(meanings[:held_out])
    tuned = keras_moe.retrieval.IndexTuner(index).fit(
        queries[: held_out // 2], target_recall=0.9
    )
    print(tuned)
    _, found = index(queries[held_out // 2 :])
    right = np.arange(held_out // 2, held_out)[:, None]
    print(
        f"the word among the best ten, of {len(words):,}: "
        f"{np.mean((np.array(found) == right).any(axis=1)):.1%}"
    )

    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "1")
        keras_moe.serving.export_search(
            path,
            lambda texts: {"embedding": model.encode_queries(tokens(texts))},
            index,
            default_k=5,
            tracked=[tokens],
        )
        served = tf.saved_model.load(path).signatures["serving_default"]
        answer = served(query=tf.constant([options.query]))
    print(options.query)
    for number in answer["identifiers"].numpy()[0]:
        print("  ", read.words[number])


if __name__ == "__main__":
    main()
