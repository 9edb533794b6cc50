"""Vectors of WordNet's meanings, and of sentences that show their use."""

import pathlib

import numpy as np

from benchmarks.retrieval.word_vectors import text_vectors
from pipelines.search.data.wordnet import find_wordnet
from pipelines.search.data.wordnet import read_wordnet

_DIM = 64
_FEWEST_WORDS = 3


def write_vectors(
    folder: pathlib.Path, wordnet: pathlib.Path | None = None
) -> None:
    """Writes `rows.npy` and, in a random order, `queries.npy`.

    Args:
        folder: where they go.
        wordnet: folder of WordNet's data files; by default where it is found.
    """
    synsets = read_wordnet(wordnet or find_wordnet())
    documents = [" ".join((*each.lemmas, each.gloss)) for each in synsets]
    sentences = [
        sentence
        for each in synsets
        for sentence in each.examples
        if len(sentence.split()) >= _FEWEST_WORDS
    ]
    rows, queries = text_vectors(documents, sentences, _DIM)
    order = np.random.default_rng(0).permutation(len(queries))
    np.save(folder / "rows.npy", rows)
    np.save(folder / "queries.npy", queries[order])
