"""What is drawn from, by brute force, for one row in float64."""

import itertools

import numpy as np


def softmax(logits):
    powers = np.exp(logits - np.max(logits))
    return powers / powers.sum()


def nucleus(probabilities, top_p):
    """Of the smallest sets of that mass the one of most mass."""
    ids = range(len(probabilities))
    for size in range(1, len(probabilities) + 1):
        sets = itertools.combinations(ids, size)
        best = max(sets, key=lambda chosen: probabilities[list(chosen)].sum())
        if probabilities[list(best)].sum() >= top_p - 1e-12:
            return best
    raise AssertionError(f"{probabilities} do not reach {top_p}.")


def distribution(logits, temperature=1.0, top_k=None, top_p=None):
    logits = np.asarray(logits, "float64") / temperature
    if top_k is not None:
        kept = np.argsort(-logits, kind="stable")[:top_k]
        dropped = np.setdiff1d(np.arange(len(logits)), kept)
        logits[dropped] = -np.inf
    probabilities = softmax(logits)
    if top_p is not None:
        kept = list(nucleus(probabilities, top_p))
        only = np.zeros_like(probabilities)
        only[kept] = probabilities[kept]
        probabilities = only / only.sum()
    return probabilities
