"""Embeddings of candidates: checked, and in the bytes they are kept in."""

from typing import Any

import numpy as np

# How rows are kept, and in how many bytes a number. The product with a query
# is float32 in each.
STORAGES = {"float32": 4, "bfloat16": 2, "int8": 1}


def read_rows(embeddings: Any) -> np.ndarray:
    """Returns float32 `[candidates, dim]`.

    Raises:
        ValueError: if they have other axes, or one is not finite in float32:
            such a row would be returned for every query, or spoil all.
    """
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind in "OUSbc":
        raise ValueError(
            "`candidate_embeddings` must be numbers of the shape [candidates, "
            f"dim], neither 0. Received: shape={rows.shape}, "
            f"dtype={rows.dtype}."
        )
    with np.errstate(over="ignore"):
        rows = rows.astype("float32")
    wrong = ~np.isfinite(rows)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            "`candidate_embeddings` must be finite in float32. Received: "
            f"{rows[row, column]} at ({row}, {column}), {int(wrong.sum())} of "
            f"{rows.size} are not."
        )
    return rows


def quantize_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int8 rows and the float32 scale of each.

    A scale for each row, so that a long row does not take the digits of a
    short one.

    Args:
        rows: float32 `[candidates, dim]`.
    """
    scales = np.max(np.abs(rows), axis=1) / np.float32(127)
    # A row of zeros, or one whose scale underflows, is zero.
    safe = np.where(scales > 0, scales, 1)
    whole = np.clip(np.round(rows / np.expand_dims(safe, 1)), -127, 127)
    return whole.astype("int8"), safe.astype("float32")
