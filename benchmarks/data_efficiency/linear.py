"""A linear classifier of glosses: TF-IDF of hashed words, and L-BFGS."""

from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse

from benchmarks.shared.glosses import CLASSES
from benchmarks.shared.glosses import bucket

BUCKETS = 1 << 16
_STEPS = 40


def tf_idf(texts: Sequence[Sequence[str]], pool: int) -> scipy.sparse.csr_array:
    """Returns rows of length 1; frequencies are those of the pool's rows."""
    ids = [[bucket(word, BUCKETS) for word in text] for text in texts]
    ends = np.cumsum([0, *map(len, ids)])
    columns = np.fromiter((i for row in ids for i in row), "int32", ends[-1])
    x = scipy.sparse.csr_array(
        (np.ones(ends[-1]), columns, ends), shape=(len(ids), BUCKETS)
    )
    x.sum_duplicates()
    seen = np.bincount(x[:pool].indices, minlength=BUCKETS)
    idf = np.log((1 + pool) / (1 + seen)) + 1
    x.data = np.log1p(x.data) * idf[x.indices]
    lengths = np.sqrt(x.multiply(x).sum(axis=1))
    return scipy.sparse.diags_array(1 / np.maximum(lengths, 1e-12)) @ x


def fit(
    x: scipy.sparse.csr_array,
    labels: np.ndarray,
    weights: np.ndarray,
    decay: float,
) -> np.ndarray:
    """Returns the kernel, `[buckets + 1, classes]`, its last row the bias.

    Minimises the mean of `weights * crossentropy` plus
    `decay / 2 * |kernel|^2`.
    """
    # Words that no row has keep a kernel of 0, and cost nothing here.
    used = np.unique(x.indices)
    inside = x[:, used]
    transposed = scipy.sparse.csr_array(inside.T)
    shares = weights / len(labels)
    rows = np.arange(len(labels))
    shape = (len(used) + 1, CLASSES)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        kernel = flat.reshape(shape)
        log_p = _log_softmax(inside @ kernel[:-1] + kernel[-1])
        slope = np.exp(log_p)
        slope[rows, labels] -= 1.0
        slope *= shares[:, None]
        gradient = np.vstack([transposed @ slope, slope.sum(axis=0)])
        gradient[:-1] += decay * kernel[:-1]
        value = -shares @ log_p[rows, labels]
        return (
            value + decay / 2 * np.sum(kernel[:-1] ** 2),
            gradient.reshape(-1),
        )

    found = scipy.optimize.minimize(
        loss,
        np.zeros(shape).reshape(-1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS},
    )
    kernel = np.zeros([BUCKETS + 1, CLASSES])
    kernel[used] = found.x.reshape(shape)[:-1]
    kernel[-1] = found.x.reshape(shape)[-1]
    return kernel


def probabilities(kernel: np.ndarray, x: scipy.sparse.csr_array) -> np.ndarray:
    """Returns `[n, classes]`."""
    return np.exp(_log_softmax(x @ kernel[:-1] + kernel[-1]))


def macro_recall(answers: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over classes of the share that is recognised."""
    right = answers.argmax(axis=1) == labels
    present = np.unique(labels)
    return float(np.mean([right[labels == c].mean() for c in present]))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
