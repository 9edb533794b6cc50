"""Budgets, draws and weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe import data
from keras_moe.data._draws import draws

RANDOM = np.random.default_rng(1)
P = RANDOM.dirichlet(np.full(3, 0.4), size=40)
LOSS = RANDOM.exponential(size=40) * (1 + 5 * (P.max(axis=1) < 0.7))
POOL = np.arange(40)


def model(x):
    return P[x]


def uncapped():
    return data.ImportanceSelector("entropy", weight_cap=None)


def standard_errors(estimates, truth):
    spread = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    return abs(np.mean(estimates) - truth) / spread


@pytest.mark.parametrize("budget", [1, 5, 20, 39])
def test_unbiased_without_a_cap(budget):
    scores = uncapped().probabilities(model, POOL)
    estimates, sums = [], []
    for seed in range(1000):
        drawn = uncapped().draw(scores, budget, seed)
        estimates.append((drawn.weights * LOSS[drawn.indices]).mean())
        sums.append(drawn.weights.mean())
    assert standard_errors(estimates, LOSS.mean()) < 3.5
    # A mean weight of 1: a selector does not change the learning rate.
    assert standard_errors(sums, 1.0) < 3.5


@pytest.mark.filterwarnings("ignore:Of 10 rows:UserWarning")
def test_unbiased_where_a_round_starves():
    scores = np.where(POOL < 6, 0.1 + POOL, 0.0)
    estimates = []
    for seed in range(1000):
        drawn = uncapped().draw(scores, 10, seed)
        assert drawn.topped_up.sum() == 4
        assert set(range(6)) <= set(drawn.indices)
        estimates.append((drawn.weights * LOSS[drawn.indices]).mean())
    assert standard_errors(estimates, LOSS.mean()) < 3.5


def test_unbiased_over_rounds():
    def fit(rows, weights):
        assert len(rows) == len(weights)
        # A model that depends on what was chosen.
        shift = int(rows.sum())
        return lambda x: P[(x + shift) % 40]

    estimates, sums = [], []
    for seed in range(600):
        indices, weights = data.select_in_rounds(
            uncapped(), fit, POOL, budget=18, num_rounds=3, seed=seed
        )
        assert len(np.unique(indices)) == 18
        estimates.append((weights * LOSS[indices]).mean())
        sums.append(weights.mean())
    assert standard_errors(estimates, LOSS.mean()) < 3.5
    assert standard_errors(sums, 1.0) < 3.5


def test_a_cap_holds():
    selector = data.ImportanceSelector("entropy", weight_cap=1.5)
    free = uncapped().select(model, POOL, 8)
    capped = selector.select(model, POOL, 8)
    np.testing.assert_array_equal(free.indices, capped.indices)
    np.testing.assert_array_equal(capped.weights, np.minimum(free.weights, 1.5))


@pytest.mark.parametrize(
    "selector",
    [data.RandomSelector(), data.MarginSelector(), uncapped()],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("budget", [1, 7, 40])
def test_the_budget_is_met(selector, budget):
    chosen = selector.select(model, POOL, budget)
    indices, weights = chosen
    assert len(chosen) == len(np.unique(indices)) == len(weights) == budget
    assert (np.diff(indices) > 0).all()
    if budget == 40:
        np.testing.assert_array_equal(weights, np.ones(40))


def test_the_same_draws_again_and_others_in_another_round():
    one = data.RandomSelector().select(None, POOL, 8).indices
    again = data.RandomSelector().select(None, POOL, 8).indices
    np.testing.assert_array_equal(one, again)
    for other in ({"seed": 1}, {"round": 1}):
        changed = data.RandomSelector().select(None, POOL, 8, **other).indices
        assert set(changed) != set(one)


@given(st.permutations(range(40)))
@settings(max_examples=20, deadline=None)
def test_with_keys_the_order_of_rows_makes_no_difference(order):
    order = np.array(order)
    keys = [f"key {row}" for row in POOL]
    straight = uncapped().select(model, POOL, 9, keys=keys)
    shuffled = uncapped().select(
        model, POOL[order], 9, keys=[keys[row] for row in order]
    )
    found = dict(zip(order[shuffled.indices], shuffled.weights, strict=True))
    wanted = dict(zip(straight.indices, straight.weights, strict=True))
    assert found == wanted


def test_rows_of_one_key_have_one_draw():
    u = draws([b"a", b"b", b"a"], seed=0, round=0)
    assert u[0] == u[2] != u[1]
    assert ((0 < u) & (u < 1)).all()


def test_draws_are_uniform():
    u = np.sort(draws([str(i).encode() for i in range(4000)], 3, 2))
    distance = np.abs(u - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov, 1 %


def test_rows_chosen_before_are_left_out():
    before = data.MarginSelector().select(model, POOL, 10).indices
    after = data.MarginSelector().select(model, POOL, 10, chosen=before)
    both = data.MarginSelector().select(model, POOL, 20).indices
    assert sorted([*before, *after.indices]) == both.tolist()


def test_rows_chosen_before_as_a_mask():
    rows = np.array([3, 7, 8])
    mask = np.isin(POOL, rows)
    one, other = (
        data.RandomSelector().select(None, POOL, 37, chosen=chosen).indices
        for chosen in (rows, mask)
    )
    np.testing.assert_array_equal(one, POOL[~mask])
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([2.9], r"integers.*Received: shape=\(1,\) of float64"),
        ([True, False], r"a mask of its 40 rows. .*shape=\(2,\) of bool"),
        (["3"], "Received: shape="),
    ],
)
def test_rows_chosen_before_of_another_type(chosen, message):
    with pytest.raises(ValueError, match=message):
        data.RandomSelector().select(None, POOL, 1, chosen=chosen)


@pytest.mark.parametrize("chosen", [[-1], [40]])
def test_rows_chosen_before_that_are_none(chosen):
    with pytest.raises(ValueError, match=r"rows of the pool, in \[0, 40\)"):
        data.RandomSelector().select(None, POOL, 1, chosen=chosen)


@pytest.mark.parametrize("budget", [0, -1, 41, 2.5])
def test_budgets_out_of_range(budget):
    with pytest.raises(ValueError, match="from 1 to the pool's 40 rows"):
        data.RandomSelector().select(None, POOL, budget)
    with pytest.raises(ValueError, match="from 1 to the pool's 40 rows"):
        data.select_in_rounds(data.RandomSelector(), None, POOL, budget)


def test_rows_chosen_before_lessen_the_budget():
    with pytest.raises(ValueError, match="from 1 to the pool's 30 rows"):
        data.RandomSelector().select(None, POOL, 31, chosen=range(10))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a"] * 39, "one for each of 40 rows. Received: 39"),
        (["a"] * 39 + [""], r"none be missing. Received: keys\[39\]=''"),
        ([None] * 40, r"keys\[0\]=None"),
        ([1.5] * 40, r"keys\[0\]=1.5"),
    ],
)
def test_keys_that_are_none(keys, message):
    with pytest.raises(ValueError, match=message):
        data.RandomSelector().select(None, POOL, 3, keys=keys)


@pytest.mark.parametrize("options", [{"seed": -1}, {"round": -1}])
def test_rounds_that_are_none(options):
    with pytest.raises(ValueError, match="must be an integer in"):
        data.RandomSelector().select(None, POOL, 3, **options)


def test_a_starved_round_is_topped_up_and_says_so():
    sure = np.eye(3)[POOL % 3]
    sure[4:7] = 1 / 3

    def model(x):
        return sure[x]

    with pytest.warns(UserWarning, match="Of 10 rows 7 were drawn uniformly"):
        chosen = uncapped().select(model, POOL, 10)
    assert set(chosen.indices[~chosen.topped_up]) == {4, 5, 6}
    np.testing.assert_allclose(chosen.weights[~chosen.topped_up], 10 / 40)
    np.testing.assert_allclose(
        chosen.weights[chosen.topped_up], 10 / 40 * 37 / 7
    )


def test_scores_that_are_none():
    class Bad(data.Selector):
        def scores(self, answers, labels=None):
            return np.array([1.0, -1.0] + [1.0] * 38)

    with pytest.raises(ValueError, match="at least 0. Received: -1.0 at row 1"):
        Bad().select(model, POOL, 3)
    with pytest.raises(NotImplementedError, match="must implement `scores`"):
        data.Selector().select(model, POOL, 3)


def test_a_class_may_be_absent_from_a_round():
    labels = np.zeros(40, "int64")
    selector = data.ImportanceSelector("disagreement")
    other = np.roll(P, 1, axis=0)
    chosen = selector.select((model, lambda x: other[x]), (POOL, labels), 5)
    assert len(chosen) == 5


def test_more_rounds_than_rows():
    with pytest.raises(ValueError, match="`num_rounds` must be at most the"):
        data.select_in_rounds(
            data.RandomSelector(), None, POOL, budget=3, num_rounds=4
        )


def test_rounds_of_a_selector_that_does_not_weigh():
    seen = []

    def fit(rows, weights):
        seen.append(len(rows))
        return model

    chosen = data.select_in_rounds(
        data.MarginSelector(), fit, POOL, budget=11, num_rounds=3
    )
    assert seen == [3, 7]
    np.testing.assert_array_equal(chosen.weights, np.ones(11))
