"""Documents that a search takes for the right one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_moe.layers import Retrieval
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_size

# A search asks for so many more than it needs, since some are not allowed.
_SPARE = 8


def mine_hard_negatives(
    query_vectors: Any,
    document_vectors: Any,
    positives: Any,
    num_negatives: int,
    *,
    skip: int = 0,
    document_keys: Any = None,
    search: Callable[[Any], tuple[Any, Any]] | None = None,
    batch_size: int = 512,
) -> np.ndarray:
    """Finds, for each query, the wrong documents that score best.

    A batch holds few documents that are hard to tell from the right one;
    these are. Mine anew from time to time, as the model changes, and train with
    them as the input `"negatives"` of `DualEncoder`.

    Args:
        query_vectors: `[queries, dim]`.
        document_vectors: `[documents, dim]`.
        positives: int `[queries]`, the row of each query's own document.
        num_negatives: how many for each query.
        skip: how many of the best are left out: they may be right answers of
            which nobody knows.
        document_keys: int `[documents]` or `[documents, keys]`, labels as
            `DualEncoder` takes them: documents that share a key with the right
            one are left out.
        search: a function from queries `[rows, dim]` to scores and rows of
            documents, the best first, below 0 for none, such as a
            `layers.Retrieval` without identifiers; by default an exact one of
            `document_vectors`.
        batch_size: queries of a search.

    Returns:
        int32 `[queries, num_negatives]`, rows of documents, the hardest first.

    Raises:
        ValueError: if sizes do not fit, or a search returns too few that are
            allowed.

    Example:

    >>> vectors = np.eye(4, dtype="float32")
    >>> queries = np.array([[0.9, 0.3, 0.1, 0.2]])
    >>> mined = keras_moe.models.mine_hard_negatives(queries, vectors, [0], 2)
    >>> mined.tolist()
    [[1, 3]]
    """
    check_size(num_negatives=num_negatives, batch_size=batch_size)
    check_not_negative(skip=skip)
    queries = np.asarray(query_vectors)
    positives = np.asarray(positives)
    documents = np.asarray(document_vectors)
    _check_positives(positives, len(queries), len(documents))
    keys = None if document_keys is None else np.asarray(document_keys)
    wanted = skip + num_negatives
    k = min(wanted + _SPARE, len(documents))
    find = search or Retrieval(documents, k=k)
    mined = [np.zeros((0, wanted), "int32")]
    first = 0
    while first < len(queries):
        batch = slice(first, first + batch_size)
        rows = np.asarray(find(queries[batch])[1])
        allowed = _allowed(rows, positives[batch], keys)
        fewest = int(allowed.sum(axis=1).min())
        if fewest >= wanted:
            # The first of those that are allowed: a stable sort keeps order.
            order = np.argsort(~allowed, axis=1, kind="stable")[:, :wanted]
            mined.append(np.take_along_axis(rows, order, axis=1))
            first += batch_size
        elif search is None and k < len(documents):
            k = min(2 * k, len(documents))
            find = Retrieval(documents, k=k)
        else:
            raise ValueError(
                f"A search must return at least {wanted} documents that are "
                "allowed: skip + num_negatives. Received: "
                f"{fewest} of {rows.shape[1]} for a query."
            )
    return np.concatenate(mined)[:, skip:].astype("int32")


def _allowed(
    rows: np.ndarray, positives: np.ndarray, keys: np.ndarray | None
) -> np.ndarray:
    own = np.expand_dims(positives, 1)
    allowed = (rows != own) & (rows >= 0)
    if keys is None:
        return allowed
    keys = keys.reshape(len(keys), -1)
    theirs, mine = keys[np.maximum(rows, 0)], np.expand_dims(keys[positives], 1)
    for column in range(keys.shape[1]):
        same = (theirs == mine[..., column : column + 1]).any(axis=-1)
        allowed &= ~(same & (mine[..., column] >= 0))
    return allowed


def _check_positives(positives: np.ndarray, queries: int, rows: int) -> None:
    if positives.shape != (queries,) or positives.dtype.kind not in "iu":
        raise ValueError(
            f"`positives` must be a row of integers for the {queries} queries. "
            f"Received: shape={positives.shape}, dtype={positives.dtype}."
        )
    if queries and not 0 <= positives.min() <= positives.max() < rows:
        raise ValueError(
            f"`positives` must be rows of the {rows} documents. Received: "
            f"{positives.min()} to {positives.max()}."
        )
