"""An index with the settings that were found for it, and their evidence."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_moe.atomic_file import atomic_file
from keras_moe.calibration import Certificate
from keras_moe.retrieval._confirmation import policy_of
from keras_moe.retrieval._frontier import OperatingPoint
from keras_moe.retrieval._levels import Level
from keras_moe.retrieval._levels import TunableIndex
from keras_moe.retrieval._levels import bytes_per_query
from keras_moe.retrieval._levels import check_settings
from keras_moe.validation import check_in_unit_interval
from keras_moe.validation import check_size

_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TunedIndex:
    """An index, its settings, and the recall that they are certified for.

    `IndexTuner.fit` makes one. With a probability of at least
    `certificate.confidence_level` over the draw of the queries that confirmed
    it, the mean recall@k over queries to come is at least `certified_recall`.

    Attributes:
        index: with these settings.
        k: number of results that recall is about.
        frontier: all settings that were found worth having, the cheapest first.
        certificate: its thresholds are bytes a query, and its risks are
            1 - recall, of the settings that were tested in turn.

    Example:

    >>> rows = np.random.default_rng(0).normal(size=(6000, 8))
    >>> index = keras_moe.retrieval.BlockIndex(rows[1000:])
    >>> tuner = keras_moe.retrieval.IndexTuner(index)
    >>> tuned = tuner.fit(rows[:1000], target_recall=0.8)
    >>> tuned.save(directory + ".json")
    >>> tuned = keras_moe.retrieval.TunedIndex.load(directory + ".json", index)
    >>> print(tuned)
    recall@10 of at least 0.8, confidence 95 %
    """

    index: TunableIndex
    k: int
    frontier: tuple[OperatingPoint, ...]
    certificate: Certificate

    def __post_init__(self):
        tested = self.certificate.thresholds
        by_bytes = {point.bytes_per_query: point for point in self.frontier}
        path = [by_bytes[each] for each in tested if each in by_bytes]
        if len(path) != len(tested) or self.certificate.policy != (
            policy_of(path, self.k, self.frontier)
        ):
            raise ValueError(
                "`certificate` must be one of a recall@k at points of this "
                f"frontier. Received: k={self.k}, certificate.policy="
                f"{self.certificate.policy}."
            )

    def __str__(self):
        return (
            f"recall@{self.k} of at least {self.certified_recall:.4g}, "
            f"confidence {100 * self.certificate.confidence_level:.4g} %"
        )

    @property
    def point(self) -> OperatingPoint:
        """The point of the frontier that is certified."""
        return next(
            point
            for point in self.frontier
            if point.bytes_per_query == self.certificate.threshold
        )

    @property
    def settings(self) -> dict[str, int]:
        """Of the index."""
        return dict(self.point.settings)

    @property
    def bytes_per_query(self) -> float:
        """That a query reads with these settings."""
        return self.point.bytes_per_query

    @property
    def predicted_recall(self) -> float:
        """Recall that rank curves predicted."""
        return self.point.predicted_recall

    @property
    def measured_recall(self) -> float:
        """Mean recall over the queries that confirmed the settings."""
        tested = self.certificate.thresholds.index(self.certificate.threshold)
        return 1.0 - self.certificate.risks[tested]

    @property
    def certified_recall(self) -> float:
        """Recall that is certified."""
        return 1.0 - self.certificate.tolerance

    def search(
        self, queries: np.ndarray, k: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the index finds with these settings."""
        most = self.k if k is None else k
        return self.index.search(queries, most, self.settings)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON file of all but the index, at once or not at all."""
        document = {
            "format_version": _FORMAT_VERSION,
            "k": self.k,
            "frontier": [point._asdict() for point in self.frontier],
            "certificate": json.loads(self.certificate.to_json()),
        }
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike, index: TunableIndex) -> "TunedIndex":
        """Reads a file that `save` wrote, and gives the index its settings.

        Args:
            path: of the file.
            index: the one that was tuned, or a copy of it.

        Raises:
            ValueError: if it is no such file, or the index is another: settings
                and recall hold for the candidates that were tuned.
        """
        tuned = dataclasses.replace(read_tuning(path), index=index)
        if tuned.certificate.fingerprint != index.fingerprint:
            raise ValueError(
                f"`index` must be the one that was tuned for {path}: settings "
                "and recall hold for its candidates alone, so tune this one "
                f"anew. Received: an index of fingerprint {index.fingerprint}; "
                f"the tuned one has {tuned.certificate.fingerprint}."
            )
        try:
            _check_frontier(tuned.frontier, index.levels(tuned.k))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is not the file of a tuned index. {error}"
            ) from error
        index.settings = tuned.settings
        return tuned


def read_tuning(path: str | os.PathLike) -> TunedIndex:
    """Reads a file that `TunedIndex.save` wrote, without an index to search.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is no such file, or contradicts itself.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        nothing: Any = None
        return TunedIndex(nothing, **_read(json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the file of a tuned index. {error}"
        ) from error


def _read(document: Any) -> dict[str, Any]:
    if document.pop("format_version") != _FORMAT_VERSION:
        raise ValueError(f"Its format_version must be {_FORMAT_VERSION}.")
    check_size(k=document["k"])
    frontier = [OperatingPoint(**point) for point in document.pop("frontier")]
    for point in frontier:
        _check_number(bytes_per_query=point.bytes_per_query)
        _check_number(predicted_recall=point.predicted_recall)
        check_in_unit_interval(
            "predicted_recall", np.array([point.predicted_recall])
        )
    certificate = Certificate.from_json(json.dumps(document.pop("certificate")))
    return {"frontier": tuple(frontier), "certificate": certificate} | document


def _check_number(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"`{name}` must be a number. Received: {name}={value!r}."
            )


def _check_frontier(
    frontier: Sequence[OperatingPoint], levels: Sequence[Level]
) -> None:
    """Raises `ValueError` unless settings cost the bytes that are certified."""
    for point in frontier:
        settings = check_settings(levels, point.settings)
        cost = bytes_per_query(levels, settings)
        if cost != point.bytes_per_query:
            raise ValueError(
                f"`bytes_per_query` must be {cost:g}, what {settings} read. "
                f"Received: bytes_per_query={point.bytes_per_query}."
            )
