"""Approximate top-k in loops."""

import numpy as np


def top_k(row, k, num_bins=None, num_per_bin=1, mask=None):
    """Values and columns of one row `[n]`, as Python's own sort has them."""
    row = np.asarray(row, "float64")
    seen = np.ones(len(row), bool) if mask is None else np.asarray(mask, bool)
    if np.isnan(row[seen]).any():
        return np.full(k, np.nan), np.full(k, -1)
    columns = [j for j in range(len(row)) if seen[j] and row[j] > -np.inf]

    def best(of, count):
        return sorted(of, key=lambda j: (-row[j], j))[:count]

    if num_bins is not None:
        bins = [
            [j for j in columns if j % num_bins == b] for b in range(num_bins)
        ]
        columns = [j for each in bins for j in best(each, num_per_bin)]
    chosen = best(columns, k)
    missing = k - len(chosen)
    values = [*row[chosen], *[-np.inf] * missing]
    return np.array(values), np.array([*chosen, *[-1] * missing])
