import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.metrics.routing import routing_statistics
from keras_moe.ops import top_k_routing
from tests.reference import switch_moe


@given(
    groups=st.integers(1, 3),
    tokens=st.integers(1, 9),
    experts=st.integers(1, 4),
    capacity=st.one_of(st.none(), st.integers(1, 10)),
    share=st.sampled_from([None, 0.0, 0.6]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(groups, tokens, experts, capacity, share, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(groups, tokens, experts)).astype("float32")
    mask = None
    if share is not None:
        mask = rng.random((groups, tokens)) < share
    plan = top_k_routing(logits, 1, capacity, mask)
    received = routing_statistics(plan, mask)
    expected = switch_moe.statistics(logits, capacity, mask)
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        assert float(received[name]) == pytest.approx(
            value, rel=1e-5, abs=1e-6
        ), name


def test_dropless_leaves_nobody_behind():
    logits = np.zeros((2, 5, 3), "float32")
    mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    received = routing_statistics(top_k_routing(logits, 1, None, mask), mask)
    assert float(received["fraction_tokens_left_behind"]) == 0.0
