"""Cases of top-k routing, and the loop that judges them."""

import numpy as np
from hypothesis import strategies as st

from tests.ops.routing.routing_case import padding
from tests.ops.routing.routing_case import scores
from tests.reference import top_k

NORMALIZATIONS = ("none", "before_drop", "after_drop")
PRIORITIES = (
    "choice_major",
    "token_major",
    "batch_prioritized",
    "gate_prioritized",
)


@st.composite
def cases(draw):
    groups, tokens = draw(st.integers(1, 2)), draw(st.integers(1, 9))
    experts = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    logits = scores(groups, tokens, experts, rng, draw(st.booleans()))
    share = draw(st.sampled_from([None, 0.0, 0.5, 0.9]))
    return (
        logits,
        draw(st.integers(1, min(experts, 4))),
        draw(st.one_of(st.none(), st.integers(1, tokens + 2))),
        padding(groups, tokens, rng, share),
        draw(st.sampled_from(NORMALIZATIONS)),
    )


def by_loop(logits, k, capacity, mask, **settings):
    groups = [
        top_k.route(
            logits[g],
            k,
            capacity,
            None if mask is None else mask[g],
            **settings,
        )
        for g in range(len(logits))
    ]
    return [seats for seats, _ in groups], [asks for _, asks in groups]
