"""From a sample of queries to settings of an index, certified."""

import math
from typing import Any

import numpy as np

from keras_moe.calibration import Certificate
from keras_moe.retrieval._confirmation import certify_budget
from keras_moe.retrieval._confirmation import certify_target
from keras_moe.retrieval._exact_search import Neighbors
from keras_moe.retrieval._exact_search import chunks
from keras_moe.retrieval._exact_search import exact_search
from keras_moe.retrieval._exact_search import recall_at_k
from keras_moe.retrieval._frontier import OperatingPoint
from keras_moe.retrieval._frontier import choices_of
from keras_moe.retrieval._frontier import find_frontier
from keras_moe.retrieval._levels import TunableIndex
from keras_moe.retrieval._tuned_index import TunedIndex
from keras_moe.validation import check_contract
from keras_moe.validation import check_fraction
from keras_moe.validation import check_positive
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

_FEWEST_QUERIES = 20
_QUERIES_AT_ONCE = 256
# Greatest share of queries that may equal a candidate: people do type titles.
_REPEATED = 0.01
# How far the direction of a kept row may lie from that of the row given.
_ROUNDING = {"float32": 1e-5, "bfloat16": 4e-3, "int8": 2e-2}


class IndexTuner:
    """Finds the cheapest settings of an index for a recall.

    Or, for a cost, those of the best recall.

    One pass over sample queries tells at which setting of each level each true
    neighbour comes through. From these rank curves a Lagrange multiplier gives
    the settings for any number of bytes, with the recall to expect: a frontier,
    without a search for each of its points. Queries that had no part in that
    confirm it: settings are tested from dear to cheap, until the target is no
    longer certified.

    Recall counts results that score no less than the true k-th, among the
    candidates as the index keeps them: what int8 rounds is not counted.

    Sources: Sun, Guo and Kumar, 2023 ([arXiv:2301.01702](https://arxiv.org/abs/
    2301.01702)), with ranks below the first level conditional on its setting;
    Learn then Test, arXiv:2110.01052.

    Args:
        index: to be tuned; `fit` leaves it with the settings that it found.
        k: number of results; that of the index by default.
        confidence_level: between 0 and 1.
        tuning_share: of the queries; the others confirm.
        p_value: of `keras_moe.calibration.calibrate`.
        seed: of the split of the queries.

    Raises:
        ValueError: if an argument is out of its range, or the index lacks what
            `TunableIndex` asks for.

    Example:

    >>> rows = np.random.default_rng(0).normal(size=(6000, 8))
    >>> index = keras_moe.retrieval.BlockIndex(rows[1000:])
    >>> tuned = keras_moe.retrieval.IndexTuner(index).fit(
    ...     rows[:1000], target_recall=0.9
    ... )
    >>> print(tuned)
    recall@10 of at least 0.9, confidence 95 %
    >>> index.settings == tuned.settings
    True
    """

    def __init__(
        self,
        index: TunableIndex,
        k: int | None = None,
        confidence_level: float = 0.95,
        tuning_share: float = 0.5,
        p_value: str = "betting",
        seed: int = 0,
    ):
        check_contract(TunableIndex, index=index)
        check_size(k=k)
        check_fraction(
            confidence_level=confidence_level, tuning_share=tuning_share
        )
        check_seed(seed)
        self.index = index
        # Of NumPy's integers JSON has none.
        self.k = int(k or index.k)
        self.confidence_level = confidence_level
        self.tuning_share = tuning_share
        self.p_value = p_value
        self.seed = seed

    def fit(
        self,
        queries: Any,
        target_recall: float | None = None,
        budget: float | None = None,
    ) -> TunedIndex:
        """Finds settings, measures what they find, and has it certified.

        Args:
            queries: `[queries, dim]`: independent draws from those to come, in
                no case the candidates themselves, which are found too easily.
            target_recall: mean recall@k to be certified with the fewest bytes;
                below 1, which no sample proves.
            budget: bytes that a query may read; the certificate then says
                which recall is certain.

        Returns:
            A `TunedIndex`; the index has its settings.

        Raises:
            keras_moe.calibration.NotCertifiedError: if these queries do not
                show that the target is reached.
            ValueError: if not one of target and budget is given; if queries
                are of another size, not finite, too few, or candidates; if the
                budget is too small for any settings.
        """
        if (target_recall is None) == (budget is None):
            raise ValueError(
                "Either `target_recall` or `budget` must be given. Received: "
                f"target_recall={target_recall}, budget={budget}."
            )
        if target_recall is not None:
            check_fraction(target_recall=target_recall)
        check_positive(budget=budget)
        vectors = self.index.vectors()
        queries = self._read_queries(queries, vectors)
        order = np.random.default_rng(self.seed).permutation(len(queries))
        queries = queries[order]
        neighbors = exact_search(vectors, queries, self.k)
        self._refuse_candidates(neighbors, order)
        size = math.ceil(self.tuning_share * len(queries))
        size = min(size, len(queries) - 1)
        frontier = self._find_frontier(queries[:size], neighbors.rows[:size])
        held_out = Neighbors(*(each[size:] for each in neighbors))

        def measure(point: OperatingPoint) -> np.ndarray:
            rest = queries[size:]
            _, found = self.index.search(rest, self.k, point.settings)
            return recall_at_k(found, held_out, vectors, rest)

        certificate = self._certify(frontier, measure, target_recall, budget)
        tuned = TunedIndex(self.index, self.k, frontier, certificate)
        self.index.settings = tuned.settings
        return tuned

    def _read_queries(self, queries: Any, vectors: np.ndarray) -> np.ndarray:
        """Returns checked queries, float32."""
        array = np.asarray(queries)
        dim = vectors.shape[1]
        if array.ndim != 2 or array.shape[1] != dim:
            raise ValueError(
                "`queries` must have the size of candidates, [queries, "
                f"{dim}]. Received: a shape of {array.shape}."
            )
        if len(array) < _FEWEST_QUERIES:
            raise ValueError(
                f"`queries` must be {_FEWEST_QUERIES} at least. Received: "
                f"{len(array)}."
            )
        array = array.astype("float32")
        wrong = ~np.isfinite(array).all(axis=1)
        if wrong.any():
            raise ValueError(
                "`queries` must be finite. Received: "
                f"{int(wrong.sum())} that are not, the first at "
                f"{int(np.argmax(wrong))}."
            )
        if self.k > len(vectors):
            raise ValueError(
                "`k` must be at most the number of candidates, "
                f"{len(vectors)}. Received: k={self.k}."
            )
        return array

    def _refuse_candidates(
        self, neighbors: Neighbors, order: np.ndarray
    ) -> None:
        same = neighbors.distances <= _ROUNDING[self.index.storage]
        if same.mean() > _REPEATED:
            rows = np.sort(order[same])
            first = ", ".join(map(str, rows[:5]))
            raise ValueError(
                "`queries` must not be candidates of the index, which are "
                "found more easily than anything people ask for: leave these "
                f"out. Received: {len(rows)} of {len(same)} that are, at rows "
                f"{first}{', ...' if len(rows) > 5 else ''}."
            )

    def _find_frontier(
        self, queries: np.ndarray, rows: np.ndarray
    ) -> tuple[OperatingPoint, ...]:
        # Settings must do for as many as the index returns, too.
        levels = self.index.levels(max(self.k, self.index.k))
        choices = [choices_of(level) for level in levels]
        parts = [
            self.index.ranks(part, own, choices[0])
            for part, own in zip(
                chunks(queries, _QUERIES_AT_ONCE),
                chunks(rows, _QUERIES_AT_ONCE),
                strict=True,
            )
        ]
        ranks = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return find_frontier(levels, choices, ranks)

    def _certify(self, frontier, measure, target_recall, budget) -> Certificate:
        evidence = (
            measure,
            self.confidence_level,
            self.p_value,
            self.k,
            self.index.fingerprint,
        )
        if budget is None:
            return certify_target(frontier, target_recall, *evidence)
        return certify_budget(frontier, budget, *evidence)
