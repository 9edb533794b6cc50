"""Switch routing, token by token (arXiv:2101.03961, section 2)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Seat:
    """One token that an expert took."""

    token: int
    expert: int
    slot: int
    gate: float


def softmax(logits):
    exp = np.exp(np.asarray(logits, "float64") - np.max(logits))
    return exp / exp.sum()


def route_group(logits, capacity=None, mask=None):
    """Seats the tokens of one group, `logits` `[tokens, experts]`."""
    logits = np.asarray(logits, "float64")
    load = [0] * logits.shape[1]
    seats = []
    for token, row in enumerate(logits):
        if mask is not None and not mask[token]:
            continue
        expert = 0
        for candidate in range(len(row)):
            if row[candidate] > row[expert]:  # ties: the lowest index
                expert = candidate
        if capacity is None or load[expert] < capacity:
            gate = softmax(row)[expert]
            seats.append(Seat(token, expert, load[expert], gate))
            load[expert] += 1
    return seats


def relu(x):
    return np.maximum(x, 0.0)


def switch_moe(
    tokens, router, wi, wo, capacity=None, mask=None, wi_gate=None, act=relu
):
    """The layer's output for one group, `tokens` `[tokens, dim]`."""
    tokens = np.asarray(tokens, "float64")
    outputs = np.zeros_like(tokens)
    for seat in route_group(tokens @ router, capacity, mask):
        x, e = tokens[seat.token], seat.expert
        hidden = act(x @ wi[e])
        if wi_gate is not None:
            hidden = hidden * (x @ wi_gate[e])
        outputs[seat.token] = seat.gate * (hidden @ wo[e])
    return outputs


def statistics(logits, capacity=None, mask=None):
    """T5X's three figures over groups, `logits` `[groups, tokens, experts]`."""
    groups, tokens, experts = np.shape(logits)
    if mask is None:
        mask = np.ones((groups, tokens), bool)
    seats = [route_group(logits[g], capacity, mask[g]) for g in range(groups)]
    gates = [seat.gate for group in seats for seat in group]
    if capacity is None:
        # As many slots as the longest queue, and one at least.
        queues = [
            sum(seat.expert == e for seat in group)
            for group in seats
            for e in range(experts)
        ]
        capacity = max([1, *queues])
    return {
        "fraction_tokens_left_behind": (mask.sum() - len(gates))
        / max(mask.sum(), 1),
        "router_confidence": sum(gates) / max(len(gates), 1),
        "expert_usage": len(gates) / (groups * experts * capacity),
    }
