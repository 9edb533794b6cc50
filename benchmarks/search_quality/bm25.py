"""BM25, with the parameters that suit the validation queries best."""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from nltk.stem.porter import PorterStemmer

from benchmarks.search_quality.ranks import reciprocal_ranks

_K1 = (0.3, 0.6, 0.9, 1.2, 1.6, 2.0)
_B = (0.4, 0.6, 0.8, 0.9, 1.0)


class Tuned(NamedTuple):
    """BM25 after tuning.

    Attributes:
        k1: how soon repeated terms count no more.
        b: how much long documents are held back.
        validation_mrr: of these two.
        weights: `[documents, terms]`, sparse.
    """

    k1: float
    b: float
    validation_mrr: float
    weights: scipy.sparse.csr_matrix


class BM25:
    """Okapi BM25 on Porter's stems.

    Args:
        documents: the texts that are searched.
    """

    def __init__(self, documents: Sequence[str]):
        terms = [stems(each) for each in documents]
        names = sorted({term for each in terms for term in each})
        self._columns = {name: column for column, name in enumerate(names)}
        self.counts = self._matrix(terms)
        self.lengths = np.asarray(self.counts.sum(axis=1)).ravel()
        frequency = np.bincount(self.counts.indices, minlength=len(names))
        number = len(documents)
        self.idf = np.log1p((number - frequency + 0.5) / (frequency + 0.5))

    def queries(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Returns how often each query has each term of the documents."""
        return self._matrix([stems(each) for each in texts])

    def weights(self, k1: float, b: float) -> scipy.sparse.csr_matrix:
        """Returns what each term of each document adds to a score."""
        weights = self.counts.copy()
        rows = np.repeat(np.arange(len(self.lengths)), np.diff(weights.indptr))
        length = self.lengths[rows] / self.lengths.mean()
        saturated = weights.data + k1 * (1.0 - b + b * length)
        weights.data = (
            self.idf[weights.indices] * weights.data * (k1 + 1.0) / saturated
        )
        return weights.astype("float32")

    def tune(self, texts: Sequence[str], wanted: np.ndarray) -> Tuned:
        """Tries a grid of parameters on queries that are not tested on.

        Args:
            texts: the queries.
            wanted: int `[queries]`, the document of each.
        """
        queries = self.queries(texts)
        tried = []
        for k1 in _K1:
            for b in _B:
                weights = self.weights(k1, b)
                found = reciprocal_ranks(queries, weights, wanted)
                tried.append(Tuned(k1, b, float(found["mrr"].mean()), weights))
        return max(tried, key=lambda each: each.validation_mrr)

    def _matrix(self, terms: list[list[str]]) -> scipy.sparse.csr_matrix:
        pairs = [
            (row, self._columns[term])
            for row, each in enumerate(terms)
            for term in each
            if term in self._columns
        ]
        rows, columns = np.array(pairs).T
        matrix = scipy.sparse.csr_matrix(
            (np.ones(len(pairs), "float32"), (rows, columns)),
            shape=(len(terms), len(self._columns)),
        )
        matrix.sum_duplicates()
        return matrix


def stems(text: str) -> list[str]:
    """Returns the stems of a text's words, as often as they come."""
    return [_stem(word) for word in re.findall("[a-z0-9]+", text.lower())]


@functools.cache
def _stem(word: str) -> str:
    return _PORTER.stem(word)


_PORTER = PorterStemmer()
