"""Distillation, token by token, in float64."""

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def kl_divergence(teacher, student, temperature=1.0):
    """T^2 KL(p || q) of one token (arXiv:1503.02531, section 2)."""
    log_p = log_softmax(np.float64(teacher) / temperature)
    log_q = log_softmax(np.float64(student) / temperature)
    total = 0.0
    for a, b in zip(log_p, log_q, strict=True):
        if np.exp(a) > 0:
            total += np.exp(a) * (a - b)
    return temperature**2 * total


def student_mixing(teacher, student, accuracy, num_candidates):
    """Cross-entropy of one token with the mixed student (arXiv:2302.03806).

    Every token that ties with the last candidate is a candidate, too.
    """
    p, f = np.exp(log_softmax(teacher)), np.exp(log_softmax(student))
    lowest = sorted(teacher, reverse=True)[num_candidates - 1]
    doubt = [
        1 - f[token] if teacher[token] >= lowest else 0.0
        for token in range(len(f))
    ]
    total = 0.0
    for token in range(len(f)):
        mixed = accuracy * f[token]
        mixed += (1 - accuracy) * doubt[token] / sum(doubt)
        if p[token] > 0:
            total -= p[token] * np.log(mixed)
    return total


def mean_squared(teacher, student):
    """Of one hidden state."""
    pairs = zip(np.float64(teacher), np.float64(student), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) / len(teacher)


def cosine_distance(teacher, student):
    """Of one hidden state; 1 if one of them is zero."""
    a, b = np.float64(teacher), np.float64(student)
    lengths = np.sqrt((a * a).sum()) * np.sqrt((b * b).sum())
    return 1.0 - (a * b).sum() / lengths if lengths else 1.0


def weighted_mean(values, mask, weights):
    """Of rows of values, each with a weight of its own."""
    total, number = 0.0, 0
    for index in np.ndindex(values.shape):
        if mask[index]:
            total += float(values[index]) * float(weights[index])
            number += 1
    return total / max(number, 1)


def isotonic(values, weights):
    """The nearest sequence that never falls, by its max-min formula.

    Robertson, Wright and Dykstra, "Order Restricted Statistical Inference",
    1988, theorem 1.4.4.
    """
    size = len(values)

    def mean(first, last):
        chosen = slice(first, last + 1)
        return np.average(values[chosen], weights=weights[chosen])

    return [
        max(
            min(mean(first, last) for last in range(place, size))
            for first in range(place + 1)
        )
        for place in range(size)
    ]


def margin(logits):
    """By how much the likeliest token leads the next."""
    second, first = np.sort(np.exp(log_softmax(logits)))[-2:]
    return first - second


def by_token(function, teacher, student, *per_token, **kwargs):
    """Calls `function` for each token of `[..., size]` arrays."""
    result = np.zeros(teacher.shape[:-1])
    for index in np.ndindex(result.shape):
        own = [values[index] for values in per_token]
        result[index] = function(teacher[index], student[index], *own, **kwargs)
    return result
