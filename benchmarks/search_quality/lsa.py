"""Latent semantic analysis: the vectors of a search before it was learned."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from benchmarks.search_quality.bm25 import BM25

SIZE = 64


class LSA:
    """The greatest singular vectors of texts, weighted by TF-IDF.

    Args:
        texts: from which to learn which terms come together.
    """

    def __init__(self, texts: Sequence[str]):
        self._terms = BM25(texts)
        weighted = self._weighted(self._terms.counts)
        _, _, self._components = scipy.sparse.linalg.svds(
            weighted,
            k=SIZE,
            # One for each text or term, whichever are fewer.
            v0=np.ones(min(weighted.shape), "float32"),
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Returns float32 `[texts, SIZE]`, 1 long, or 0 without a known term.

        Args:
            texts: any.
        """
        vectors = self._weighted(self._terms.queries(texts))
        vectors = (vectors @ self._components.T).astype("float32")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(length, 1e-9)

    def _weighted(
        self, counts: scipy.sparse.csr_matrix
    ) -> scipy.sparse.csr_matrix:
        weighted = counts.copy()
        weighted.data = np.log1p(counts.data) * self._terms.idf[counts.indices]
        weighted.data = weighted.data.astype("float32")
        length = scipy.sparse.linalg.norm(weighted, axis=1)
        scale = scipy.sparse.diags(1 / np.maximum(length, 1e-9))
        return (scale @ weighted).tocsr().astype("float32")
