"""The softmax over a batch, a query and a candidate at a time."""

import math


def share_a_key(one, other):
    return any(key >= 0 and key in other for key in one)


def in_batch_values(
    scores, excluded=None, probability=None, hardest=None, mask=None
):
    """Costs of the queries that are not left out; `None` for those that are."""
    values = []
    for query, row in enumerate(scores):
        if mask is not None and not mask[query]:
            values.append(None)
            continue
        own, negatives = None, []
        for candidate, score in enumerate(row):
            if probability is not None:
                score = score - math.log(probability[candidate])
            if candidate == query:
                own = score
            elif excluded is None or not excluded[query][candidate]:
                negatives.append(score)
        if hardest is not None:
            negatives = sorted(negatives, reverse=True)[:hardest]
        total = sum(math.exp(score - own) for score in negatives)
        values.append(math.log1p(total))
    return values


def in_batch_mean(scores, weights=None, **options):
    values = in_batch_values(scores, **options)
    weights = [1.0] * len(values) if weights is None else weights
    real = [
        value * weight
        for value, weight in zip(values, weights, strict=True)
        if value is not None
    ]
    return sum(real) / max(len(real), 1)
