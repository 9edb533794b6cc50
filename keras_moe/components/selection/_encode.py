"""Columns as a network reads them: of one scale, and categories by number."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_moe.components.selection._feature_table import Column

_MOST_CATEGORIES = 1000
# Variation, as a share of a number, that rounding to float32 alone may make.
_ROUNDING = 1e-6

Inputs = dict[str, np.ndarray]


class Encoded(NamedTuple):
    """Features of two splits.

    Attributes:
        train: by name float32 `[examples, size]`, or int32 `[examples]`.
        evaluation: as well.
        categories: number of categories of those that are integers.
        useless: why the others are left out, by name.
    """

    train: Inputs
    evaluation: Inputs
    categories: dict[str, int]
    useless: dict[str, str]


def encode(
    train: Mapping[str, Column], evaluation: Mapping[str, Column]
) -> Encoded:
    """Returns features as a network reads them.

    What is missing is a category of its own, and so are categories beyond the
    thousand most frequent. Missing numbers are the mean; where training lacks
    some, another number beside them says whether they are there, which may be
    all that a feature tells.

    Args:
        train: whose means and categories count.
        evaluation: another split.
    """
    encoded = Encoded({}, {}, {}, {})
    for name, column in sorted(train.items()):
        other = evaluation.get(name)
        why = _useless(column) or _unlike(column, other)
        if why is not None or other is None:
            encoded.useless[name] = str(why)
        elif column.is_text:
            known = _categories(column)
            encoded.train[name] = _numbered(column, known)
            encoded.evaluation[name] = _numbered(other, known)
            encoded.categories[name] = len(known) + 1
        else:
            scale = _scale(column)
            encoded.train[name] = _scaled(column, *scale)
            encoded.evaluation[name] = _scaled(other, *scale)
    return encoded


def _useless(column: Column) -> str | None:
    """Says why nothing can be learned from a column, if so."""
    seen = column.values[column.there]
    if not len(seen):
        return "missing"
    if column.is_text:
        return "constant" if len(set(column.values)) == 1 else None
    if not np.isfinite(seen).all():
        return "not finite"
    varies = _varies(column).any() or not column.there.all()
    return None if varies else "constant"


def _varies(column: Column) -> np.ndarray:
    """Returns which numbers of a column differ by more than rounding."""
    seen = column.values[column.there]
    spread = np.abs(seen - seen[:1]).max(axis=0)
    rounding = 0.0 if column.is_whole else _ROUNDING
    return spread > rounding * np.abs(seen).max(axis=0)


def _unlike(column: Column, other: Column | None) -> str | None:
    """Says why a column of the evaluation is not like that of training."""
    if other is None or other.values.shape[1:] != column.values.shape[1:]:
        return "of another size in the evaluation"
    if not column.is_text and not np.isfinite(other.values).all():
        return "not finite in the evaluation"
    return None


def _categories(column: Column) -> list[bytes]:
    names, counts = np.unique(column.values[column.there], return_counts=True)
    return names[np.argsort(-counts, kind="stable")][:_MOST_CATEGORIES].tolist()


def _numbered(column: Column, known: list[bytes]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(known, 1)}
    found = [numbers.get(name, 0) for name in column.values]
    return np.where(column.there, found, 0).astype("int32")


def _scale(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and deviation of numbers, and of whether they are there.

    A deviation of what does not vary is 1: by one near 0, a number that
    evaluation alone has would be huge.
    """
    seen, there = column.values[column.there], column.there
    deviation = np.where(_varies(column), seen.std(axis=0), 1.0)
    if there.all():
        return seen.mean(axis=0), deviation
    return (
        np.append(seen.mean(axis=0), there.mean()),
        np.append(deviation, there.std()),
    )


def _scaled(
    column: Column, mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    there = np.expand_dims(column.there, 1)
    values = np.where(there, column.values, mean[: column.values.shape[1]])
    if len(mean) > values.shape[1]:
        values = np.concatenate([values, there], axis=1)
    return ((values - mean) / deviation).astype("float32")
