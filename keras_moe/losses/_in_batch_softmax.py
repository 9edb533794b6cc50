"""The loss of a search: each query against the documents of a batch."""

import keras_rs
from keras import ops

from keras_moe.losses._replica_share import shared_by_replicas
from keras_moe.losses._weighted_mean import weighted_mean
from keras_moe.types import Tensor
from keras_moe.validation import check_size

# keras-rs clips probabilities here: its own limit, 1e-6, is met by documents of
# any large collection.
_LEAST_PROBABILITY = 1e-12


def in_batch_softmax(
    scores: Tensor,
    excluded: Tensor | None = None,
    sampling_probability: Tensor | None = None,
    num_hard_negatives: int | None = None,
    mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Returns the mean cross-entropy of queries that must find their document.

    Column `i` is the document of query `i`; the documents of other queries are
    its negatives, and so are the columns that follow.

    Frequent documents come up as negatives more often than others and would be
    pushed away for it: where `sampling_probability` is given, its logarithm is
    taken off the scores (logQ correction).

    Under a strategy of `tf.distribute` each replica has the candidates of its
    own batch; its mean is divided by the number of replicas, see
    `token_crossentropy`.

    Source: [Bengio and Senecal, 2008](https://doi.org/10.1109/TNN.2007.912312)
    for the correction; Yi et al., RecSys 2019, for its use in a batch.

    Args:
        scores: `[queries, candidates]`, at least as many candidates as
            queries, already divided by a temperature; computed in float32.
        excluded: bool `[queries, candidates]`, candidates that are no
            negatives of a query, such as `accidental_hits`; they may hold
            anything. The query's own document is never excluded.
        sampling_probability: `[candidates]` in (0, 1], how likely each is to
            be a candidate of a batch; anything where it is excluded.
        num_hard_negatives: how many negatives of each query count, those with
            the greatest scores; `None` for all.
        mask: bool `[queries]`, false for queries that are left out; they may
            hold anything.
        sample_weight: `[queries]`, factors of the cost of each.

    Returns:
        A float32 scalar in nats per query: 0 where there are no negatives.

    Raises:
        ValueError: if there are fewer candidates than queries.

    Example:

    >>> loss = keras_moe.losses.in_batch_softmax(np.zeros([2, 4]))
    >>> round(float(loss), 4)  # log 4
    1.3863
    """
    check_size(num_hard_negatives=num_hard_negatives)
    logits, own = read_scores(scores, excluded, mask)
    if sampling_probability is not None:
        # A layer would compute in the global policy, which may be float16.
        correct = keras_rs.layers.SamplingProbabilityCorrection(
            _LEAST_PROBABILITY, dtype="float32", name="correct"
        )
        # Of what is left out the probability, too, may be anything.
        counts = logits > -float("inf")
        if mask is not None:
            counts = counts & ops.expand_dims(mask, 1)
        probability = ops.cast(sampling_probability, "float32")
        probability = ops.where(counts, ops.expand_dims(probability, 0), 1.0)
        logits = correct(logits, probability)
    positive = _own_scores(logits, own)
    if num_hard_negatives is not None:
        mine = keras_rs.layers.HardNegativeMining(
            num_hard_negatives, dtype="float32", name="mine"
        )
        logits, _ = mine(logits, ops.cast(own, "float32"))
    values = ops.logsumexp(logits, axis=-1) - positive
    return shared_by_replicas(weighted_mean(values, mask, sample_weight))


def in_batch_hits(
    scores: Tensor,
    excluded: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns which queries score their document above all negatives.

    Args:
        scores: as for `in_batch_softmax`.
        excluded: as well.
        mask: as well.

    Returns:
        float32 `[queries]`, 1 for a hit, and int32 `[queries]`, how many
        negatives there were; 0 for a query that is left out.
    """
    logits, own = read_scores(scores, excluded, mask)
    negatives = ops.logical_not(own) & (logits > -float("inf"))
    if mask is not None:
        negatives = negatives & ops.expand_dims(mask, 1)
    best = ops.max(ops.where(own, -float("inf"), logits), axis=-1)
    number = ops.sum(ops.cast(negatives, "int32"), axis=-1)
    hit = (_own_scores(logits, own) > best) & (number > 0)
    return ops.cast(hit, "float32"), number


def read_scores(
    scores: Tensor, excluded: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns float32 scores, minus infinity where excluded, and who owns what.

    Rows that are left out are 0: what they hold must reach no gradient, and a
    product with 0 would not keep a NaN away.
    """
    scores = ops.cast(scores, "float32")
    queries, candidates = ops.shape(scores)
    if isinstance(queries, int) and isinstance(candidates, int):
        if candidates < queries:
            raise ValueError(
                "`scores` must have a candidate for each query, its own. "
                f"Received: shape={tuple(scores.shape)}."
            )
    own = ops.expand_dims(ops.arange(queries), 1) == ops.expand_dims(
        ops.arange(candidates), 0
    )
    if excluded is not None:
        excluded = ops.cast(excluded, "bool") & ops.logical_not(own)
        scores = ops.where(excluded, -float("inf"), scores)
    if mask is not None:
        scores = ops.where(ops.expand_dims(mask, 1), scores, 0.0)
    return scores, own


def _own_scores(scores: Tensor, own: Tensor) -> Tensor:
    # Other columns may be minus infinity, which 0 does not take away.
    return ops.sum(ops.where(own, scores, 0.0), axis=-1)
