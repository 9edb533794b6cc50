"""Vectors of texts by latent semantic analysis, of hashed words."""

import re
import zlib
from collections.abc import Sequence

import numpy as np
from scipy import sparse

_WORD = re.compile(r"[a-z0-9]+")
_EXTRA, _TURNS = 16, 3


def text_vectors(
    documents: Sequence[str],
    queries: Sequence[str],
    dim: int,
    buckets: int = 2**16,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit vectors of documents and queries, float32 `[texts, dim]`.

    TF-IDF of hashed words, reduced to the directions in which documents vary
    most by a randomised decomposition.
    """
    counts = _count_words(documents, buckets)
    used = np.asarray((counts > 0).sum(axis=0)).ravel()
    weight = np.log((1 + len(documents)) / (1 + used)) + 1
    weigh = sparse.diags(weight.astype("float32"))
    rows = _unit(counts @ weigh)
    directions = _main_directions(rows, dim)
    asked = _count_words(queries, buckets) @ weigh
    return _unit(rows @ directions.T), _unit(asked @ directions.T)


def _count_words(texts: Sequence[str], count: int) -> sparse.csr_matrix:
    places, buckets = [], []
    for place, text in enumerate(texts):
        words = set(_WORD.findall(text.lower()))
        places += [place] * len(words)
        buckets += [zlib.crc32(word.encode()) % count for word in words]
    ones = np.ones(len(places), "float32")
    shape = (len(texts), count)
    return sparse.csr_matrix((ones, (places, buckets)), shape)


def _main_directions(rows: sparse.csr_matrix, dim: int) -> np.ndarray:
    random = np.random.default_rng(0)
    start = random.normal(size=(rows.shape[1], dim + _EXTRA))
    seen = rows @ start.astype("float32")
    for _ in range(_TURNS):
        seen, _ = np.linalg.qr(seen)
        other, _ = np.linalg.qr(rows.T @ seen)
        seen = rows @ other
    seen, _ = np.linalg.qr(seen)
    _, _, directions = np.linalg.svd((rows.T @ seen).T, full_matrices=False)
    return directions[:dim]


def _unit(rows):
    if sparse.issparse(rows):
        length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        inverse = 1 / np.maximum(length, 1e-9)
        return (sparse.diags(inverse.astype("float32")) @ rows).tocsr()
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(length, 1e-9)).astype("float32")
