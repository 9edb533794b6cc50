"""What every reference of a router returns."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Seat:
    """One token that an expert took."""

    token: int
    rank: int  # 0 for the token's first choice
    expert: int
    slot: int
    weight: float


def softmax(logits):
    """The softmax of one vector, in float64."""
    logits = np.asarray(logits, "float64")
    exp = np.exp(logits - np.max(logits))
    return exp / exp.sum()


def weight_matrix(seats, tokens, experts):
    """`[tokens, experts]`: the weight of each expert in each token's sum."""
    weights = np.zeros((tokens, experts))
    for seat in seats:
        weights[seat.token, seat.expert] += seat.weight
    return weights
