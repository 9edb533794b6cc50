"""Random features as published, by their logarithms, in float64.

Written from the formulas: FAVOR+ and its hyperbolic form, arXiv:2009.14794;
FAVOR++, arXiv:2205.15317; FAVOR#, arXiv:2302.00787. Queries `x` and keys `y`
are rows `[length, dim]` over `dim ** 0.25`; `draws` are the rows of a standard
normal projection. The factor `1 / sqrt(draws)` of all features is left out.
"""

import numpy as np

from tests.reference.seat import softmax


def square(x):
    """The squared length of each row, as a column."""
    return np.sum(np.square(x), axis=-1, keepdims=True)


# === Features ===


def positive(x, draws):
    """FAVOR+: `exp(w.x - |x|^2 / 2)`."""
    return x @ draws.T - square(x) / 2


def hyperbolic(x, draws):
    """FAVOR+ in pairs of a draw and its negative."""
    pairs = [positive(x, draws), positive(x, -draws)]
    return np.concatenate(pairs, axis=-1) - np.log(2) / 2


def bounded(x, draws, a):
    """FAVOR++: `D exp(A |w|^2 + B w.x - |x|^2 / 2)`."""
    b = np.sqrt(1 - 4 * a)
    log_d = draws.shape[-1] / 4 * np.log(1 - 4 * a)
    return log_d + a * square(draws).T + b * x @ draws.T - square(x) / 2


def directed(x, draws, a, directions):
    """FAVOR#: the same with a bound for each of the orthogonal directions."""
    turned = np.sqrt(1 - 4 * a) * (x @ directions)
    log_d = np.sum(np.log(1 - 4 * a)) / 4
    of_draws = np.square(draws) @ a
    return log_d + of_draws + turned @ draws.T - square(x) / 2


def relu(x, draws):
    """The generalised attention of FAVOR+, `relu(w.x) + 1e-3`."""
    return np.log(np.maximum(x @ draws.T, 0) + 1e-3)


def elu(x, draws):
    """`elu(w.x) + 1`, arXiv:2006.16236, of projections."""
    projected = x @ draws.T
    return np.where(
        projected > 0, np.log(1 + np.maximum(projected, 0)), projected
    )


# === Choices ===


def mean_square_of_sums(x, y):
    """The mean over all pairs of `|x_i + y_j|^2`."""
    return np.mean([square(row + y) for row in x])


def best_bound(x, y):
    """FAVOR++'s A, in closed form."""
    dim, phi = x.shape[-1], mean_square_of_sums(x, y)
    root = np.sqrt((2 * phi + dim) ** 2 + 8 * dim * phi)
    rho = (root - 2 * phi - dim) / (4 * phi)
    return (1 - 1 / rho) / 8


def balance(x, y):
    """FAVOR#'s factor of queries, and divisor of keys, for each dimension."""
    return (np.mean(y**2, axis=0) / np.mean(x**2, axis=0)) ** 0.25


def best_directions(x, y):
    """FAVOR#'s bounds and directions, ascending by how much these vary."""
    moment = np.mean([(row + y).T @ (row + y) / len(y) for row in x], axis=0)
    eigenvalues, directions = np.linalg.eigh(moment)
    root = np.sqrt((2 * eigenvalues + 1) ** 2 + 8 * eigenvalues)
    return (1 - 2 * eigenvalues - root) / 16, directions


# === Attention ===


def attention(log_queries, log_keys, values, seen=None):
    """Query by query and key by key; `seen` `[queries, keys]`.

    Rows that see nothing are zero.
    """
    outputs = np.zeros((len(log_queries), values.shape[-1]))
    for i, log_query in enumerate(log_queries):
        keys = [j for j in range(len(log_keys)) if seen is None or seen[i, j]]
        if keys:
            logits = log_sum(log_query + log_keys[keys])
            outputs[i] = softmax(logits) @ values[keys]
    return outputs


def exact_attention(x, y, values):
    """What all of this approximates."""
    return np.stack([softmax(row) for row in x @ y.T]) @ values


def log_sum(logits):
    """The logarithm of the sum of exponentials along the last axis."""
    largest = np.max(logits, axis=-1)
    return largest + np.log(np.exp(logits - largest[..., None]).sum(axis=-1))
