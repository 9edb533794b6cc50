"""No row may learn, choose and certify at once."""

import hashlib
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np


def check_disjoint(splits: Mapping[str, Iterable[Any]]) -> None:
    """Makes sure that no row is in two splits.

    On rows that it was trained on, a stage is right and sure: a rule of
    deferral that is fitted there learns that, and a certificate that is granted
    there guarantees nothing. The models do not tell what they were trained on;
    whoever knows it can have it compared.

    Args:
        splits: name to rows, `[rows, ...]` of features, or each a text, a
            tuple, or a digest: what tells a row from others, of one kind in
            all splits. Arrays are compared as float64, or by their texts.

    Raises:
        ValueError: if a split is empty or is no list of rows, or a row is in
            two; naming the splits.

    Example:

    >>> keras_moe.calibration.check_disjoint(
    ...     {"train": ["a", "b"], "fit": ["c"], "calibration": ["d", "e"]}
    ... )
    >>> x = np.random.default_rng(0).normal(size=(300, 4))
    >>> keras_moe.calibration.check_disjoint(
    ...     {"train": x[:100], "fit": x[100:200], "calibration": x[200:]}
    ... )
    """
    seen: dict[str, set[Hashable]] = {}
    for name, rows in splits.items():
        found = _identities(name, rows)
        if not found:
            raise ValueError(
                f"`splits[{name!r}]` must have rows. Received: none."
            )
        for earlier, others in seen.items():
            shared = len(found & others)
            if shared:
                raise ValueError(
                    f"`splits[{name!r}]` must have no row of "
                    f"`splits[{earlier!r}]`: a model is right and sure on rows "
                    f"that it was trained on. Received: {shared} of "
                    f"{len(found)} rows that are in both."
                )
        seen[name] = found


def _identities(name: str, rows: Any) -> set[Hashable]:
    """Returns what tells the rows of a split apart."""
    if hasattr(rows, "__array__"):
        rows = np.asarray(
            rows
        )  # tensors, and tables whose iterators name columns
    if isinstance(rows, Mapping | str | bytes):
        raise ValueError(
            f"`splits[{name!r}]` must be rows: an array, or a list of texts, "
            f"tuples or digests. Received: {type(rows).__name__}."
        )
    try:
        return {_identity(row) for row in rows}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`splits[{name!r}]` must have rows that are arrays of numbers or "
            f"texts, or texts, tuples or digests. Received: {error}"
        ) from error


def _identity(row: Any) -> Hashable:
    """Returns a row, or the digest of one that is an array."""
    try:
        hash(row)
    except TypeError:
        pass
    else:
        return row
    array = np.asarray(row)
    if array.dtype.kind in "biuf":
        # Zeros and NaN have several codes each.
        array = np.asarray(array, "float64") + 0.0
        values = np.where(np.isnan(array), np.nan, array).tobytes()
    elif array.ndim and array.dtype.kind in "OSU":
        values = repr(array.tolist()).encode()
    else:
        raise TypeError(f"a row of type {type(row).__name__}.") from None
    return array.shape, hashlib.sha256(values).digest()
