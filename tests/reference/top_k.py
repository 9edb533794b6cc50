"""Token-choice routing, one ask after the other.

Switch (arXiv:2101.03961), GShard (arXiv:2006.16668), batch priority
(arXiv:2106.05974).
"""

import dataclasses

from tests.reference.seat import Seat
from tests.reference.seat import softmax

# What comes first when experts run out of slots.
ORDERS = {
    "choice_major": lambda ask: (ask.rank, ask.token),
    "token_major": lambda ask: (ask.token, ask.rank),
    "batch_prioritized": lambda ask: (ask.rank, -ask.first_gate, ask.token),
    "gate_prioritized": lambda ask: (-ask.gate, ask.token, ask.rank),
}


@dataclasses.dataclass(frozen=True)
class Ask:
    """One choice of one token."""

    token: int
    rank: int
    expert: int
    gate: float  # the router's probability
    share: float  # the gate over the sum of the token's gates
    first_gate: float


def best(scores, k):
    """The indices of the k highest, ties to the lowest index."""
    chosen = []
    for _ in range(k):
        top = None
        for index, score in enumerate(scores):
            if index not in chosen and (top is None or score > scores[top]):
                top = index
        chosen.append(top)
    return chosen


def choices(logits, k=1, mask=None, bias=None):
    """Every choice of every real token, `logits` `[tokens, experts]`."""
    asks = []
    for token, row in enumerate(logits):
        if mask is not None and not mask[token]:
            continue
        p = softmax(row)
        chosen = best(row if bias is None else p + bias, k)
        total = sum(p[e] for e in chosen)
        for rank, e in enumerate(chosen):
            ask = Ask(token, rank, e, p[e], p[e] / total, p[chosen[0]])
            asks.append(ask)
    return asks


def accept(asks, policy="all", threshold=0.2, drawn=None):
    """The choices that the policy lets through.

    `drawn` has the choices, as (token, rank), that chance let through.
    """
    accepted = []
    for ask in asks:
        if ask.rank == 0 or policy == "all":
            accepted.append(ask)
        elif policy == "threshold" and ask.share > threshold:
            accepted.append(ask)
        elif policy == "random" and (ask.token, ask.rank) in drawn:
            accepted.append(ask)
    return accepted


def seat(asks, num_experts, capacity=None, normalization="none", priority=None):
    """Gives slots to accepted choices."""
    load = [0] * num_experts
    kept = []
    for ask in sorted(asks, key=ORDERS[priority or "choice_major"]):
        slot = load[ask.expert]
        load[ask.expert] += 1
        if capacity is None or slot < capacity:
            kept.append((ask, slot))
    seats = []
    for ask, slot in kept:
        weight = ask.gate
        if normalization == "before_drop":
            weight = ask.share
        elif normalization == "after_drop":
            weight = ask.gate / sum(
                other.gate for other, _ in kept if other.token == ask.token
            )
        seats.append(Seat(ask.token, ask.rank, ask.expert, slot, weight))
    return seats


def route(
    logits,
    k=1,
    capacity=None,
    mask=None,
    normalization="none",
    priority="choice_major",
    policy="all",
    threshold=0.2,
    bias=None,
    drawn=None,
):
    """The seats of one group, and the choices that asked for them."""
    asks = choices(logits, k, mask, bias)
    asks = accept(asks, policy, threshold, drawn)
    num_experts = len(logits[0]) if len(logits) else 0
    return seat(asks, num_experts, capacity, normalization, priority), asks
