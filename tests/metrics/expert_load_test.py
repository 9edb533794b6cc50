import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.metrics import ExpertLoad
from tests.reference import routing_statistics as reference


@given(
    batches=st.lists(
        st.lists(st.integers(0, 50), min_size=3, max_size=3), max_size=4
    )
)
def test_equals_the_loop_over_all_batches(batches):
    metric = ExpertLoad(3)
    for counts in batches:
        metric.update_state(np.array(counts))
    total = [sum(counts[e] for counts in batches) for e in range(3)]
    np.testing.assert_allclose(
        metric.load(), np.array(total) / max(sum(total), 1), rtol=1e-6
    )
    assert float(metric.result()) == pytest.approx(
        reference.variation(total), rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("experts", [1, 2, 16])
def test_even_is_zero_and_collapse_is_the_greatest(experts):
    metric = ExpertLoad(experts)
    assert float(metric.result()) == 0.0
    metric.update_state(np.full(experts, 7))
    assert float(metric.result()) == pytest.approx(0.0, abs=1e-6)
    metric.reset_state()
    assert not np.any(metric.load())
    metric.update_state(np.eye(experts)[0])
    assert float(metric.result()) == pytest.approx((experts - 1) ** 0.5)


def test_half_full_is_told_from_every_second_batch():
    # The mean of each batch's variation would report 1.0 for both.
    taking_turns, collapsed = ExpertLoad(2), ExpertLoad(2)
    for batch in range(4):
        taking_turns.update_state([batch % 2, 1 - batch % 2])
        collapsed.update_state([1, 0])
    assert float(taking_turns.result()) == 0.0
    assert float(collapsed.result()) == pytest.approx(1.0)


def test_weight_and_config():
    metric = ExpertLoad(2, name="a/expert_load_cv")
    metric.update_state([1, 1], sample_weight=3)
    metric.update_state([0, 2])
    np.testing.assert_allclose(metric.load(), [3 / 8, 5 / 8])
    config = keras.metrics.serialize(metric)
    again = keras.metrics.deserialize(config)
    assert isinstance(again, ExpertLoad)
    assert again.get_config() == metric.get_config()


def test_refuses_no_experts():
    with pytest.raises(ValueError, match="`num_experts` must be a positive"):
        ExpertLoad(0)
