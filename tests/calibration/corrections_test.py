import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_moe import calibration

CORRECTIONS = (
    calibration.fixed_sequence,
    calibration.bonferroni,
    calibration.holm,
)
# Coarse, so that some are equal.
many = st.lists(st.integers(0, 20).map(lambda i: i / 100), min_size=1)
levels = st.sampled_from([0.01, 0.05, 0.1, 0.5])


@given(many, levels)
def test_fixed_sequence_walks(p_values, level):
    accepted = []
    for p in p_values:
        if p > level:
            break
        accepted.append(True)
    accepted += [False] * (len(p_values) - len(accepted))
    assert calibration.fixed_sequence(p_values, level).tolist() == accepted


@given(many, levels)
def test_bonferroni_divides(p_values, level):
    expected = [p <= level / len(p_values) for p in p_values]
    assert calibration.bonferroni(p_values, level).tolist() == expected


@given(
    st.lists(st.integers(0, 20).map(lambda i: i / 100), min_size=1, max_size=6)
)
def test_holm_is_the_closure_of_bonferroni(p_values):
    """It accepts i just if each set with i in it holds a small enough one."""
    m, level = len(p_values), 0.1
    expected = []
    for i in range(m):
        sets = (
            [p_values[j] for j in range(m) if bits >> j & 1]
            for bits in range(2**m)
            if bits >> i & 1
        )
        expected.append(all(min(s) <= level / len(s) for s in sets))
    assert calibration.holm(p_values, level).tolist() == expected


@given(many, levels)
def test_holm_accepts_all_of_bonferroni(p_values, level):
    bold = calibration.holm(p_values, level)
    assert bold[calibration.bonferroni(p_values, level)].all()


@given(many, levels, st.randoms())
def test_order_means_nothing_but_to_the_sequence(p_values, level, random):
    order = list(range(len(p_values)))
    random.shuffle(order)
    for correct in (calibration.bonferroni, calibration.holm):
        accepted = correct(p_values, level)
        shuffled = correct([p_values[i] for i in order], level)
        assert shuffled.tolist() == accepted[order].tolist()


@pytest.mark.parametrize("correct", CORRECTIONS)
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_chance_of_any_error(correct, correlation):
    """Five true hypotheses of eight, uniform p-values, 4,000 draws."""
    draws, level = 4000, 0.1
    random = np.random.default_rng(0)
    shared = random.normal(size=[draws, 1])
    own = random.normal(size=[draws, 8])
    z = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own
    z[:, :3] -= 4  # false ones, easily seen
    errors = sum(correct(p, level)[3:].any() for p in stats.norm.cdf(z))
    assert errors <= stats.binom.ppf(1 - 1e-4, draws, level)


@pytest.mark.parametrize("correct", CORRECTIONS)
def test_invalid_input(correct):
    for p_values in ([], 0.1, [[0.1]]):
        with pytest.raises(ValueError, match=r"p_values\.shape="):
            correct(p_values, 0.05)
    for p_values in ([0.1, np.nan], [0.1, -0.1], [0.1, 1.1]):
        with pytest.raises(ValueError, match=r"`p_values` must be in \[0, 1\]"):
            correct(p_values, 0.05)
    for level in (0, 1, np.nan):
        with pytest.raises(ValueError, match="`level` must be between 0"):
            correct([0.1], level)
