"""Candidates that are no negatives of a query."""

import keras
import numpy as np
from keras import ops

from keras_moe.types import Tensor


def accidental_hits(keys: Tensor, candidate_keys: Tensor) -> Tensor:
    """Returns which candidates share a key with the document of a query.

    In a batch, the document of one query may as well answer another: it is the
    same document, or has a word in common with it. Such a candidate says
    nothing about what is wrong. Keys are identifiers, or whatever documents
    share, such as hashed words.

    Args:
        keys: int `[queries]` or `[queries, keys]` of the query's own document;
            numbers below 0 are no keys.
        candidate_keys: int `[candidates]` or `[candidates, keys]`.

    Returns:
        bool `[queries, candidates]`, true for the query's own document as well.

    Raises:
        ValueError: if keys are not integers, or have other axes.

    Example:

    >>> hits = keras_moe.losses.accidental_hits([7, 8], [7, 8, 7])
    >>> hits.numpy().tolist()
    [[True, False, True], [False, True, False]]
    """
    keys = read_keys("keys", keys)
    candidate_keys = read_keys("candidate_keys", candidate_keys)
    # A comparison for each pair of columns: one over all four axes would hold
    # as many times the memory of the scores. No key is equal to no key here.
    keys = ops.where(keys < 0, -2, keys)
    candidate_keys = ops.where(candidate_keys < 0, -1, candidate_keys)
    shape = (ops.shape(keys)[0], ops.shape(candidate_keys)[0])
    hits = ops.zeros(shape, "bool")
    for column in range(keys.shape[1]):
        own = keys[:, column : column + 1]
        for other in range(candidate_keys.shape[1]):
            theirs = ops.expand_dims(candidate_keys[:, other], 0)
            hits = hits | (own == theirs)
    return hits


def read_keys(name: str, keys: Tensor) -> Tensor:
    """Returns `[rows, keys]` of one dtype, in which -1 stays -1.

    Args:
        name: what an error calls them.
        keys: `[rows]` or `[rows, keys]`.

    Raises:
        ValueError: if they are not integers, or have other axes.
    """
    if not hasattr(keys, "dtype"):
        keys = np.asarray(keys)
    # Of strings, too, which Keras has no name for.
    dtype = getattr(keys.dtype, "name", keys.dtype)
    if not dtype.lstrip("u").startswith("int"):
        raise ValueError(
            f"`{name}` must be integers: number or hash what names documents. "
            f"Received: {name}.dtype={dtype}."
        )
    wide = "int32" if keras.backend.backend() == "jax" else "int64"
    keys = ops.cast(ops.convert_to_tensor(keys), wide)
    if dtype.startswith("u"):
        # The upper half of uint64, hashes as a rule, would be no keys.
        keys = ops.where(keys < 0, -1 - keys, keys)
    if len(keys.shape) == 1:
        return ops.expand_dims(keys, 1)
    if len(keys.shape) != 2 or keys.shape[1] is None:
        raise ValueError(
            f"`{name}` must have the shape [rows] or [rows, keys], with a "
            f"number of keys that is known. Received: shape="
            f"{tuple(keys.shape)}."
        )
    return keys
