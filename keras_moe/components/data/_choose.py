"""Chooses rows in Beam as `Selector.select` chooses them in memory."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import apache_beam as beam
import keras
import numpy as np
import tensorflow as tf

from keras_moe.components._record_shards import write_shard
from keras_moe.components.data._pool import Models
from keras_moe.components.data._pool import Row
from keras_moe.components.data._pool import integer_feature
from keras_moe.components.data._pool import shard_name
from keras_moe.data._cut import Cut
from keras_moe.data._cut import Rank
from keras_moe.data._cut import check_budget
from keras_moe.data._cut import rank
from keras_moe.data._draws import draw
from keras_moe.data._example_weights import EXAMPLE_WEIGHT


class Scored(NamedTuple):
    """A row with what the choice depends on.

    Attributes:
        rank: the greater, the sooner it is chosen. Each row has its own.
        score: how much it is wanted.
        shard: that it is written to.
        row: the row.
        repeats: whether another row before it has its key.
    """

    rank: Rank
    score: float
    shard: int
    row: Row
    repeats: bool


class Chosen(NamedTuple):
    """What is known when all rows were seen.

    Attributes:
        cut: what separates the chosen ones.
        repeated: rows whose key another has.
        without_key: rows without one.
    """

    cut: Cut
    repeated: int
    without_key: int


class ScoreShard(beam.DoFn):
    """Scores and ranks the rows of a shard.

    Args:
        selector: config of a `Selector`.
        models: that it asks.
        label_key: of the feature that holds the class, or `None`.
        seed: of the draws.
        round: of the draws.
    """

    def __init__(
        self,
        selector: dict[str, Any],
        models: Models,
        label_key: str | None,
        seed: int,
        round: int,
    ) -> None:
        self._config = selector
        self._models = models
        self._label_key = label_key
        self._seed = seed
        self._round = round
        self._selector: Any = None

    def setup(self) -> None:
        """Makes the selector and loads the models, once a worker."""
        self._selector = keras.saving.deserialize_keras_object(self._config)
        self._models.load()

    def process(self, element: tuple[int, Iterable[Row]]) -> Iterator[Scored]:
        """Yields the rows of a shard, scored."""
        shard, given = element
        # Sorted, so that batches and every bit of an answer are the same.
        rows = sorted(given)
        keys = [row.key for row in rows]
        copies: Counter[bytes] = Counter()
        for row, score, before in zip(
            rows, self._scores(rows), [None, *keys[:-1]], strict=True
        ):
            u = draw(row.key or row.record, self._seed, self._round)
            # Equal in both, rows are told apart by their content, and copies
            # by their number: tied ranks would miss the budget.
            last = hashlib.sha256(row.record).digest(), -copies[row.record]
            copies[row.record] += 1
            order = (*rank(score, u, self._selector.is_drawn), *last)
            repeats = bool(row.key) and row.key == before
            yield Scored(order, score, shard, row, repeats)

    def _scores(self, rows: list[Row]) -> list[float]:
        if not self._selector.num_models:
            return [1.0] * len(rows)
        labels = None
        if self._selector.needs_labels:
            labels = np.array([self._label(row) for row in rows])
        answers = self._models.answers(rows)
        return self._selector.scores_of(answers, labels).tolist()

    def _label(self, row: Row) -> int:
        label = integer_feature(row.record, str(self._label_key))
        if label is None:
            raise ValueError(
                f"Each example must have one integer {self._label_key!r}. "
                f"That with the key {row.key!r} has not."
            )
        return label


class FindCut(beam.CombineFn):
    """Finds where the chosen rows end, whatever the order of rows.

    Args:
        budget: how many are chosen.
        key: name of the key, for messages.
    """

    def __init__(self, budget: int, key: str) -> None:
        self._budget = budget
        self._key = key

    def create_accumulator(self) -> tuple[list[Rank], np.ndarray]:
        """Returns no ranks, and the counts of no rows."""
        return [], np.zeros(4, "int64")

    def add_input(self, accumulator: Any, element: Scored) -> Any:
        """Adds a row."""
        best, counts = accumulator
        self._keep(best, element.rank)
        counted = (1, element.score == 0, element.repeats, not element.row.key)
        return best, counts + np.array(counted, "int64")

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        """Joins several."""
        best, counts = self.create_accumulator()
        for others, more in accumulators:
            counts = counts + more
            for each in others:
                self._keep(best, each)
        return best, counts

    def extract_output(self, accumulator: Any) -> Chosen:
        """Returns the cut.

        Raises:
            ValueError: if there are fewer rows than are to be chosen, or the
                key is no feature of any row.
        """
        best, counts = accumulator
        pool, unwanted, repeated, without_key = (int(n) for n in counts)
        check_budget(self._budget, pool)
        if without_key == pool:
            raise ValueError(
                f"`key` must be a feature of one text or integer. None of "
                f"{pool} examples has such a feature {self._key!r}."
            )
        best = sorted(best, reverse=True)
        topped_up = sum(each[0] == 0.0 for each in best[: self._budget])
        after = best[self._budget] if len(best) > self._budget else None
        cut = Cut(self._budget, pool, unwanted, topped_up, after)
        return Chosen(cut, repeated, without_key)

    def _keep(self, best: list[Rank], rank: Rank) -> None:
        if len(best) <= self._budget:
            heapq.heappush(best, rank)
        else:
            heapq.heappushpop(best, rank)


class KeepChosen(beam.DoFn):
    """Keeps the rows that are chosen, each with its weight.

    Args:
        selector: config of a `Selector`.
    """

    def __init__(self, selector: dict[str, Any]) -> None:
        self._config = selector
        self._selector: Any = None

    def setup(self) -> None:
        """Makes the selector, once a worker."""
        self._selector = keras.saving.deserialize_keras_object(self._config)

    def process(
        self, element: Scored, chosen: Chosen
    ) -> Iterator[tuple[tuple[str, int], tuple[Row, float]]]:
        """Yields a chosen row and its weight, under split and shard."""
        cut = chosen.cut
        if cut.rank is not None and element.rank <= cut.rank:
            return
        weight = cut.weight(element.score, self._selector.is_weighted)
        (weight,) = self._selector.capped(np.array([weight])).tolist()
        row = element.row
        yield (row.split, element.shard), (row, weight)


class WriteWeighted(beam.DoFn):
    """Writes the chosen rows of a shard, in order, with their weights.

    Args:
        folders: of the splits.
        num_shards: how many there are.
    """

    def __init__(self, folders: dict[str, str], num_shards: int) -> None:
        self._folders = folders
        self._num_shards = num_shards

    def process(
        self, element: tuple[tuple[str, int], Iterable[Any]]
    ) -> Iterator[int]:
        """Writes the shard; yields how many rows it has."""
        (split, shard), given = element
        rows = sorted(each for each in given if each is not None)
        yield write_shard(
            self._folders[split],
            shard_name(shard, self._num_shards),
            (weighted(row.record, weight) for row, weight in rows),
        )


def weighted(record: bytes, weight: float) -> bytes:
    """Returns a record with a weight, times that which it had before.

    Raises:
        ValueError: if that is not one number of at least 0.
    """
    example = tf.train.Example.FromString(record)
    feature = example.features.feature[EXAMPLE_WEIGHT]
    kind = feature.WhichOneof("kind")
    before = list(getattr(feature, kind).value if kind else []) or [1.0]
    if (
        kind == "bytes_list"
        or len(before) != 1
        or not 0.0 <= before[0] < np.inf
    ):
        raise ValueError(
            f"`{EXAMPLE_WEIGHT}` must be one number of at least 0. Received: "
            f"{before} of an example."
        )
    # A float also where it was an integer, as all weights are that are written.
    feature.float_list.value[:] = [weight * before[0]]
    return example.SerializeToString(deterministic=True)
