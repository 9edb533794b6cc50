"""An index in plain NumPy: leaves, rows rounded to whole numbers, rows."""

import numpy as np

from keras_moe.retrieval import Level
from keras_moe.retrieval._ranks import ranks_within


class LeafIndex:
    """Slow and obvious: what an index of two settings finds."""

    storage = "float32"

    def __init__(self, rows, num_leaves, k=5, seed=0):
        self.rows = rows
        self.k = k
        random = np.random.default_rng(seed)
        self.centres = rows[random.choice(len(rows), num_leaves, False)]
        distances = [np.sum((rows - c) ** 2, axis=1) for c in self.centres]
        self.leaf = np.argmin(distances, axis=0)
        self.rounded = np.rint(rows)
        self.settings = {"leaves": 1, "candidates": k}
        self.searches = 0

    @property
    def fingerprint(self):
        return f"rows {self.rows.sum()}"

    def vectors(self):
        return self.rows

    def levels(self, k):
        dim, leaves = self.rows.shape[1], len(self.centres)
        in_leaf = len(self.rows) / leaves
        return (
            Level("leaves", 1, leaves, leaves * dim * 4, in_leaf * dim),
            Level("candidates", k, len(self.rows), 0, dim * 4),
        )

    def search(self, queries, k, settings=None):
        self.searches += 1
        settings = settings or self.settings
        found = [self._search_one(query, k, settings) for query in queries]
        scores, rows = zip(*found, strict=True)
        return np.stack(scores), np.stack(rows)

    def _search_one(self, query, k, settings):
        leaves = np.argsort(-(self.centres @ query), kind="stable")
        near = np.flatnonzero(np.isin(self.leaf, leaves[: settings["leaves"]]))
        coarse = np.argsort(-(self.rounded[near] @ query), kind="stable")
        near = near[coarse[: settings["candidates"]]]
        scores = self.rows[near] @ query
        best = np.argsort(-scores, kind="stable")[:k]
        missing = (0, k - len(best))
        return (
            np.pad(scores[best], missing, constant_values=-np.inf),
            np.pad(near[best], missing, constant_values=-1),
        )

    def ranks(self, queries, neighbors, choices):
        return ranks_within(
            queries @ self.centres.T,
            self.leaf,
            queries @ self.rounded.T,
            neighbors,
            choices,
        )
