"""What routing did, counted seat by seat; T5X's names."""

import numpy as np

from tests.reference.seat import softmax


def statistics(seats, logits, capacity, mask):
    """Over groups: `seats` a list of `Seat`s each, `logits` `[g, s, e]`."""
    groups, _, experts = np.shape(logits)
    every = [seat for group in seats for seat in group]
    if capacity is None:
        # As many slots as the longest queue, and one at least.
        queues = [
            sum(seat.expert == e for seat in group)
            for group in seats
            for e in range(experts)
        ]
        capacity = max([1, *queues])
    real = np.argwhere(mask)
    alone = [
        (g, s) for g, s in real if all(seat.token != s for seat in seats[g])
    ]
    entropies = []
    for g, s in real:
        p = softmax(logits[g, s])
        entropies.append(-sum(x * np.log(x) for x in p if x > 0))
    return {
        "fraction_tokens_left_behind": len(alone) / max(len(real), 1),
        "router_confidence": sum(seat.weight for seat in every)
        / max(len(every), 1),
        "expert_usage": len(every) / (groups * experts * capacity),
        "router_entropy": sum(entropies) / max(len(real), 1),
    }


def load(asks, experts):
    """How often each expert was asked; `asks` of all groups in one list."""
    return [sum(ask.expert == e for ask in asks) for e in range(experts)]


def variation(load):
    """The coefficient of variation."""
    mean = sum(load) / len(load)
    squares = sum((x - mean) ** 2 for x in load) / len(load)
    return squares**0.5 / mean if mean else 0.0
