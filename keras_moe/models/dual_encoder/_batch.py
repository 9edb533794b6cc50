"""A batch of a search: scores of each query with each candidate."""

from typing import Any
from typing import NamedTuple

from keras import ops

from keras_moe.losses._accidental_hits import accidental_hits
from keras_moe.losses._accidental_hits import read_keys
from keras_moe.types import Tensor

# Names of inputs and of outputs.
QUERY, DOCUMENT, NEGATIVES = "query", "document", "negatives"
# Names of inputs that no encoder reads.
NEGATIVE_KEYS = "negative_keys"
PROBABILITY = "sampling_probability"
NEGATIVE_PROBABILITY = "negative_sampling_probability"


class Batch(NamedTuple):
    """What `losses.in_batch_softmax` wants to know of a batch.

    Attributes:
        scores: float32 `[queries, candidates]`.
        excluded: bool, candidates that are no negatives: `[1, candidates]` or
            `[queries, candidates]`.
        mask: bool `[queries]`, false where a query is left out.
        sampling_probability: `[candidates]`, or `None`.
    """

    scores: Tensor
    excluded: Tensor
    mask: Tensor
    sampling_probability: Tensor | None


def read_batch(
    x: dict[str, Any], y: Any, outputs: dict[str, Tensor], temperature: float
) -> Batch:
    """Scores each query with each candidate.

    Args:
        x: the inputs.
        y: keys of the documents, or `None`.
        outputs: the vectors.
        temperature: scores are divided by it.

    Raises:
        ValueError: if vectors are missing or do not fit, labels are not
            integers, or negatives lack what documents have.
    """
    queries, candidates = _queries_and_candidates(outputs)
    query_usable, usable = _are_usable(queries), _are_usable(candidates)
    probability = None
    if PROBABILITY in x:
        own = ops.reshape(ops.cast(x[PROBABILITY], "float32"), (-1,))
        probability = _with_negatives(x, own, NEGATIVE_PROBABILITY, outputs)
        likely = ops.isfinite(probability) & (probability > 0)
        usable = usable & likely
        probability = ops.where(likely, probability, 1.0)
    # A gradient through what is NaN would be NaN: it must not get there.
    queries = ops.where(ops.expand_dims(query_usable, 1), queries, 0.0)
    candidates = ops.where(ops.expand_dims(usable, 1), candidates, 0.0)
    scores = ops.matmul(queries, ops.transpose(candidates)) / temperature
    excluded = ops.expand_dims(ops.logical_not(usable), 0)
    if y is not None:
        keys = read_keys("y", y)
        others = _with_negatives(x, keys, NEGATIVE_KEYS, outputs)
        excluded = excluded | accidental_hits(keys, others)
    mask = query_usable & usable[: ops.shape(queries)[0]]
    return Batch(scores, excluded, mask, probability)


def joined(x: Tensor) -> Tensor:
    """Returns `[batch * number, ...]` for `[batch, number, ...]`."""
    x = ops.convert_to_tensor(x)
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def _queries_and_candidates(
    outputs: dict[str, Tensor],
) -> tuple[Tensor, Tensor]:
    if QUERY not in outputs or DOCUMENT not in outputs:
        raise ValueError(
            f"`inputs` must hold {QUERY!r} and {DOCUMENT!r} to train or "
            f"evaluate. Received: {sorted(outputs)}."
        )
    queries, candidates = outputs[QUERY], outputs[DOCUMENT]
    if queries.shape[-1] != candidates.shape[-1]:
        raise ValueError(
            "Both encoders must give vectors of one size. Received: "
            f"{queries.shape[-1]} of queries, {candidates.shape[-1]} of "
            "documents."
        )
    if NEGATIVES in outputs:
        candidates = ops.concatenate([candidates, joined(outputs[NEGATIVES])])
    return queries, candidates


def _are_usable(vectors: Tensor) -> Tensor:
    finite = ops.all(ops.isfinite(vectors), axis=-1)
    return finite & ops.any(vectors != 0, axis=-1)


def _with_negatives(
    x: dict[str, Any], own: Tensor, name: str, outputs: dict[str, Tensor]
) -> Tensor:
    """Returns what documents have, and after it what negatives have."""
    if NEGATIVES not in outputs:
        return own
    if name not in x:
        raise ValueError(
            f"`inputs` must hold {name!r} where there are {NEGATIVES!r}: what "
            f"holds of documents must be said of them. Received: {sorted(x)}."
        )
    theirs = ops.convert_to_tensor(x[name])
    # `[batch, number, keys]`, or `[batch, number]` for one key, or none.
    wanted = own.shape[1:]
    if theirs.shape[2:] != wanted and (len(theirs.shape), wanted) != (2, (1,)):
        raise ValueError(
            f"{name!r} must have the shape [batch, number, *{tuple(wanted)}], "
            "as it is of documents. Received: shape="
            f"{tuple(theirs.shape)}."
        )
    theirs = ops.reshape(theirs, (-1, *wanted))
    if name == NEGATIVE_KEYS:
        # Not cast to the dtype of `y`, in which -1 may be a key.
        theirs = read_keys(name, theirs)
    else:
        theirs = ops.cast(theirs, own.dtype)
    return ops.concatenate([own, theirs])
