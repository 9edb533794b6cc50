"""A search that is part of the model: saved, exported and served with it."""

import functools
from typing import Any

import numpy as np
from keras import ops

from keras_moe.layers.retrieval._find_best import find_best
from keras_moe.layers.retrieval._search_layer import SearchLayer
from keras_moe.ops.top_k._choose_bins import Bins
from keras_moe.ops.top_k._choose_bins import choose_bins
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor


@register
class Retrieval(SearchLayer):
    """Returns the `k` candidates whose dot products with a query are greatest.

    Candidates and identifiers, strings as well, are weights: checkpoints,
    `.keras` files and SavedModels hold them, once, and a stock TensorFlow
    Serving answers. Arguments and results are those of `keras_rs.layers.
    BruteForceRetrieval`, whose candidates a saved model loses.

    Scores are computed and ranked in float32 under every dtype policy; equal
    ones come in the order of the candidates. A query that is not finite is
    answered with NaN and -1 (or an empty string), other queries of its batch as
    ever. Strings keep XLA off: TensorFlow compiles none.

    On a mesh rows lie along `"model"`; each device searches its own.

    Args:
        candidate_embeddings: `[candidates, dim]`; `None` where
            `update_candidates` will give them.
        candidate_ids: an integer or a string for each, all different; `None`
            for answers that are numbers of rows.
        k: how many to return; a call may ask for fewer.
        return_scores: whether scores are returned, too.
        recall_target: `None` for an exact search. A share in (0, 1] makes it
            approximate: `keras_moe.ops.partial_reduce_top_k` with the fewest
            bins whose expected recall is at least that. Candidates are then
            kept in a random order, which the expectation asks for (and equal
            scores come in that order). Meant for accelerators, where nobody
            has timed it yet; slower on a CPU.
        storage: `"float32"`, `"bfloat16"`, or `"int8"` with a scale for each
            row. A recall target does not count what rounding costs.
        capacity: number of candidates that there is room for; by default as
            many as are given first. On a mesh a multiple of its devices.
        dim: size of embeddings; needed only without candidates.
        id_kind: `"row"`, `"integer"` or `"string"`; as `dim`.
        id_width: bytes of the longest string that there is room for; by
            default the longest given first.

    Input shape:
        `(..., dim)`.

    Output shape:
        Scores `(..., k)` of the layer's compute dtype, the greatest first, and
        identifiers `(..., k)`: int32 numbers of rows, int64 (int32 on JAX), or
        strings.

    Raises:
        ValueError: if an argument is out of its range; if embeddings are not
            finite, identifiers repeat, or there are fewer candidates than `k`;
            if the layer is called without candidates, or with queries of
            another size.

    Example:

    >>> cities = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> names = ["Oslo", "Rome", "Bern"]
    >>> layer = keras_moe.layers.Retrieval(cities, names, k=2)
    >>> model = keras.Sequential([keras.Input([2]), layer])
    >>> model.save(directory + ".keras")
    >>> loaded = keras.models.load_model(directory + ".keras")
    >>> scores, names = loaded(np.array([[0.0, 1.0]]))
    >>> print(np.array(scores), np.array(names))
    [[1.  0.8]] [[b'Rome' b'Bern']]
    """

    def __init__(
        self,
        candidate_embeddings: Any = None,
        candidate_ids: Any = None,
        k: int = 10,
        return_scores: bool = True,
        recall_target: float | None = None,
        storage: str = "float32",
        capacity: int | None = None,
        dim: int | None = None,
        id_kind: str | None = None,
        id_width: int | None = None,
        **kwargs,
    ):
        if recall_target is not None and not 0.0 < recall_target <= 1.0:
            raise ValueError(
                "`recall_target` must be in (0, 1], or None for an exact "
                f"search. Received: recall_target={recall_target}."
            )
        super().__init__(
            k=k,
            return_scores=return_scores,
            reordered=recall_target is not None,
            storage=storage,
            capacity=capacity,
            dim=dim,
            id_kind=id_kind,
            id_width=id_width,
            **kwargs,
        )
        self.recall_target = recall_target
        self._fill(candidate_embeddings, candidate_ids)

    def find(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        mask = ops.arange(self.capacity, dtype="int32") < self.num_candidates
        return find_best(self.score(queries), k, self.bins, mask)

    def _arrange(self, rows: np.ndarray) -> np.ndarray | None:
        if not self.reordered:
            return None
        # Neighbours in a file are neighbours in space: mix them up.
        return np.random.default_rng(len(rows)).permutation(len(rows))

    @property
    def bins(self) -> Bins | None:
        """How the search reduces; `None` if it is exact, or has no size yet."""
        if self.recall_target is None or self.capacity is None:
            return None
        return _chosen_bins(self.capacity, self.k, self.recall_target)

    @property
    def expected_recall(self) -> float:
        """Share of the best that a search finds, on average; 1 if exact."""
        bins = self.bins
        return 1.0 if bins is None else bins.expected_recall

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "recall_target": self.recall_target,
        }


@functools.cache
def _chosen_bins(capacity: int, k: int, recall_target: float) -> Bins:
    return choose_bins(capacity, k, recall_target)
