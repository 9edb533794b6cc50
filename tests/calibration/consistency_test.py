import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe import calibration

sequences = st.lists(st.sampled_from("abc"), max_size=5)
DISTANCES = (
    calibration.edit_distance_error,
    calibration.token_f1_distance,
    calibration.rouge_l_distance,
)


@pytest.mark.parametrize("distance", DISTANCES)
@given(st.lists(st.tuples(sequences, sequences), max_size=5))
def test_textual_consistency_is_row_by_row(distance, rows):
    early = [a for a, _ in rows]
    full = [b for _, b in rows]
    losses = calibration.textual_consistency(early, full, distance)
    assert losses.dtype == np.float64
    assert losses.tolist() == [distance(a, b) for a, b in rows]
    assert not calibration.textual_consistency(full, full, distance).any()


@pytest.mark.parametrize("distance", DISTANCES)
@given(
    st.lists(
        st.tuples(
            sequences, sequences, st.lists(sequences, min_size=1, max_size=3)
        ),
        max_size=5,
    )
)
def test_risk_consistency_is_row_by_row(distance, rows):
    early, full, references = [[row[i] for row in rows] for i in range(3)]
    losses = calibration.risk_consistency(early, full, references, distance)
    assert losses.dtype == np.float64
    for loss, (a, b, right) in zip(losses, rows, strict=True):
        assert loss == max(distance(a, *right) - distance(b, *right), 0.0)


def test_the_better_early_answer_is_no_loss():
    losses = calibration.risk_consistency(
        [["a"], ["b"], ["a"]],
        [["b"], ["a"], ["a"]],
        [[["a"]], [["a"]], [["b"]]],
        calibration.edit_distance_error,
    )
    assert losses.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("found", [-0.1, 1.1, np.nan])
def test_distances_must_be_bounded(found):
    def distance(a, b):
        return found if a == ["b"] else 0.0

    with pytest.raises(ValueError, match=rf"{found} in row 1"):
        calibration.textual_consistency(
            [["a"], ["b"]], [["a"], ["a"]], distance
        )
    with pytest.raises(ValueError, match=rf"{found} in row 0"):
        calibration.risk_consistency([["a"]], [["b"]], [[["a"]]], distance)


def test_rows_must_match():
    distance = calibration.edit_distance_error
    with pytest.raises(ValueError, match="'early': 1, 'full': 2"):
        calibration.textual_consistency([["a"]], [["a"], ["b"]], distance)
    with pytest.raises(ValueError, match="'references': 0"):
        calibration.risk_consistency([["a"]], [["a"]], [], distance)
    with pytest.raises(ValueError, match="none in row 0"):
        calibration.risk_consistency([["a"]], [["a"]], [[]], distance)


def test_one_reference_where_alternatives_are_wanted():
    """Its symbols would pass for alternatives, did it not say so."""
    with pytest.raises(TypeError, match="not strings"):
        calibration.risk_consistency(
            [["K"]], [["K"]], [["K", "AE"]], calibration.edit_distance_error
        )
