"""Expert-choice routing, expert by expert (arXiv:2202.09368)."""

import numpy as np
from scipy.optimize import linprog

from tests.reference.seat import Seat
from tests.reference.seat import softmax


def scores(logits, mask=None, softmax_over="experts"):
    """`[tokens, experts]` of one group; padding scores nothing."""
    logits = np.asarray(logits, "float64")
    tokens, experts = logits.shape
    real = [t for t in range(tokens) if mask is None or mask[t]]
    table = np.zeros((tokens, experts))
    if softmax_over == "experts":
        for token in real:
            table[token] = softmax(logits[token])
    elif real:
        for expert in range(experts):
            table[real, expert] = softmax(logits[real, expert])
    return table


def route(
    logits, capacity, mask=None, softmax_over="experts", normalization="none"
):
    """The seats of one group: each expert takes its best tokens."""
    table = scores(logits, mask, softmax_over)
    tokens, experts = table.shape
    taken = []
    for expert in range(experts):
        queue = [t for t in range(tokens) if mask is None or mask[t]]
        queue.sort(key=lambda token, e=expert: (-table[token, e], token))
        for slot, token in enumerate(queue[:capacity]):
            taken.append((token, expert, slot))
    seats = []
    for token, expert, slot in taken:
        weight = table[token, expert]
        if normalization == "mean":
            weight = weight / sum(other[0] == token for other in taken)
        rank = sum(other[0] == token and other[1] < expert for other in taken)
        seats.append(Seat(token, rank, expert, slot, weight))
    return seats


def best_assignment(table, capacity, cap, mask=None):
    """The linear program of section 3.2 without its entropy.

    Returns the highest sum of scores that is to be had where every expert
    takes `capacity` tokens and no token goes to more than `cap` experts.
    """
    real = np.asarray(table, "float64")
    if mask is not None:
        real = real[np.asarray(mask, bool)]
    tokens, experts = real.shape
    takes = np.zeros((experts, tokens * experts))
    goes = np.zeros((tokens, tokens * experts))
    for t in range(tokens):
        for e in range(experts):
            takes[e, t * experts + e] = 1.0
            goes[t, t * experts + e] = 1.0
    found = linprog(
        -real.ravel(),
        A_ub=goes,
        b_ub=np.full(tokens, cap),
        A_eq=takes,
        b_eq=np.full(experts, capacity),
        bounds=(0.0, 1.0),
    )
    assert found.success, found.message
    return -found.fun
