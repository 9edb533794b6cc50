"""Soft routing, slot by slot (arXiv:2308.00951, section 2.1)."""

import numpy as np

from tests.reference.seat import softmax


def route(logits, mask=None):
    """Dispatch and combine weights, both `[tokens, experts, slots]`."""
    logits = np.asarray(logits, "float64")
    dispatch, combine = np.zeros_like(logits), np.zeros_like(logits)
    tokens, experts, slots = logits.shape
    real = [t for t in range(tokens) if mask is None or mask[t]]
    for e in range(experts):
        for c in range(slots):
            if real:
                dispatch[real, e, c] = softmax(logits[real, e, c])
    for token in real:
        every = softmax(logits[token].ravel())
        combine[token] = every.reshape(experts, slots)
    return dispatch, combine


def mix(tokens, dispatch, combine, expert):
    """The layer's output for one group; `expert(e, x)` is expert e's network.

    A token without real neighbours, padding, comes out as zero.
    """
    outputs = np.zeros((tokens.shape[0], tokens.shape[1]))
    _, experts, slots = dispatch.shape
    for e in range(experts):
        for c in range(slots):
            slot = np.zeros(tokens.shape[1])
            for t, token in enumerate(tokens):
                if dispatch[t, e, c]:
                    slot += dispatch[t, e, c] * token
            answer = expert(e, slot)
            for t in range(len(tokens)):
                outputs[t] += combine[t, e, c] * answer
    return outputs
