"""The linear program behind expert choice with a cap."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from keras_moe.ops import capped_assignment
from tests.covering import covering
from tests.reference import expert_choice


def softmax_scores(tokens, experts, seed, spread=1.5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(tokens, experts)) * spread
    return expert_choice.scores(logits)


@functools.cache
def compiled(experts, cap, entropy_weight, num_iterations):
    """A graph: thousands of iterations are too slow without."""
    signature = [
        tf.TensorSpec([None, None, experts]),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None, None], tf.bool),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def function(table, capacity, mask):
        return capped_assignment(
            table, capacity, cap, mask, entropy_weight, num_iterations
        )

    return function


def assign(table, capacity, cap, entropy_weight, num_iterations, mask=None):
    table = np.asarray(table, "float32")[None]
    if mask is None:
        mask = np.ones(table.shape[1], bool)
    function = compiled(table.shape[2], cap, entropy_weight, num_iterations)
    return function(table, capacity, mask[None]).numpy()[0]


@given(
    tokens=st.integers(1, 8),
    capacity=st.integers(1, 4),
    cap=st.integers(1, 4),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_keeps_its_constraints(tokens, capacity, cap, padded, seed):
    experts = 3  # a graph for each number
    table = softmax_scores(tokens, experts, seed)
    mask = np.random.default_rng(seed).random(tokens) < (0.5 if padded else 2)
    found = assign(
        table, capacity, cap, mask=mask, entropy_weight=0.05, num_iterations=500
    )
    # What cannot be filled is filled as far as it can.
    most = min(capacity, mask.sum() * min(cap, experts) / experts)
    assert np.all((found >= 0) & (found <= 1 + 1e-5))
    assert not np.any(found[~mask])
    assert np.all(found.sum(1) <= cap + 1e-3)
    np.testing.assert_allclose(found.sum(0), most, atol=2e-3)


def program_value(table, assigned, entropy_weight):
    entropy = -np.sum(assigned * np.log(assigned))
    return np.sum(assigned * table) + entropy_weight * entropy


def by_solver(table, capacity, cap, entropy_weight):
    """The same program by a general solver."""
    shape = np.shape(table)

    def cost(flat):
        return -program_value(table, flat.reshape(shape), entropy_weight)

    def slope(flat):
        return -table.ravel() + entropy_weight * (np.log(flat) + 1)

    found = minimize(
        cost,
        np.full(table.size, capacity / shape[0]),
        jac=slope,
        bounds=[(1e-9, 1.0)] * table.size,
        constraints=[
            {
                "type": "eq",
                "fun": lambda a: a.reshape(shape).sum(0) - capacity,
            },
            {"type": "ineq", "fun": lambda a: cap - a.reshape(shape).sum(1)},
        ],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found.success, found.message
    return found.x.reshape(shape)


@pytest.mark.parametrize(
    ("sizes", "entropy_weight"),
    covering(
        [(6, 3, 2, 1), (6, 3, 3, 2), (5, 4, 1, 1), (4, 2, 3, 2), (5, 3, 3, 2)],
        [0.1, 0.5],
        strength=1,
    ),
)
def test_solves_the_regularised_program(sizes, entropy_weight):
    tokens, experts, capacity, cap = sizes
    table = softmax_scores(tokens, experts, seed=tokens)
    found = assign(
        table,
        capacity,
        cap,
        entropy_weight=entropy_weight,
        num_iterations=2000,
    )
    found = found.astype("float64")
    np.testing.assert_allclose(found.sum(0), capacity, rtol=1e-5)
    assert np.all(found.sum(1) <= cap + 1e-5)
    # The optimum is unique: whoever reaches its value is there. Nearly flat,
    # it is a poor judge of entries, and so is the solver.
    value = program_value(table, found, entropy_weight)
    expected = by_solver(table, capacity, cap, entropy_weight)
    assert value >= program_value(table, expected, entropy_weight) - 1e-5


@pytest.mark.parametrize(
    ("tokens", "experts", "capacity", "cap"),
    [
        (6, 3, 2, 1),
        (8, 4, 4, 2),
        (7, 4, 3, 2),
        pytest.param(9, 3, 3, 2, marks=pytest.mark.large),
        pytest.param(8, 4, 2, 1, marks=pytest.mark.large),
    ],
)
def test_tends_to_the_linear_program(tokens, experts, capacity, cap):
    losses = []
    for seed in range(3):
        table = softmax_scores(tokens, experts, seed)
        best = expert_choice.best_assignment(table, capacity, cap)
        gaps = []
        for entropy_weight in (0.3, 0.05, 0.01):
            found = assign(
                table,
                capacity,
                cap,
                entropy_weight=entropy_weight,
                num_iterations=1000,
            )
            gaps.append((best - np.sum(found * table)) / best)
            # Entropy costs at most its weight times its greatest value.
            room = entropy_weight * capacity * experts * np.log(tokens) / best
            assert gaps[-1] <= room + 1e-3
        assert gaps[0] >= gaps[1] - 1e-3 and gaps[1] >= gaps[2] - 1e-3
        losses.append(gaps[-1])
    assert np.mean(losses) < 0.02


@pytest.mark.parametrize(
    ("tokens", "experts", "capacity", "cap"),
    [
        (12, 4, 5, 2),
        (64, 8, 16, 2),
        pytest.param(64, 8, 16, 3, marks=pytest.mark.large),
    ],
)
def test_the_defaults_come_close(tokens, experts, capacity, cap):
    tables = [softmax_scores(tokens, experts, s, spread=1.0) for s in range(4)]
    together = capped_assignment(np.float32(tables), capacity, cap)
    for table, found in zip(tables, together, strict=True):
        best = expert_choice.best_assignment(table, capacity, cap)

        # In the last case every seat of every token is needed.
        np.testing.assert_allclose(np.sum(found, 0), capacity, rtol=0.05)
        assert np.all(np.sum(found, 1) <= cap * 1.01)
        assert np.sum(found * table) == pytest.approx(best, rel=0.02)


def test_passes_no_gradient():
    table = tf.constant(softmax_scores(4, 2, 0), tf.float32)[None]
    with tf.GradientTape() as tape:
        tape.watch(table)
        loss = tf.reduce_sum(capped_assignment(table, 2, 1) ** 2)
    assert tape.gradient(loss, table) is None


@pytest.mark.parametrize("entropy_weight", [1e-3, 1e-6])
def test_small_weights_stay_finite(entropy_weight):
    table = softmax_scores(12, 4, 0, spread=10.0)
    found = capped_assignment(
        np.float32(table)[None], 3, 1, entropy_weight=entropy_weight
    )
    assert np.all(np.isfinite(found))
    assert np.all((found >= 0) & (found <= 1 + 1e-5))


def test_groups_are_their_own():
    tables = np.stack([softmax_scores(6, 3, seed) for seed in range(3)])
    tables = tables.astype("float32")
    together = capped_assignment(tables, 2, 1, num_iterations=50)
    for table, found in zip(tables, together, strict=True):
        alone = capped_assignment(table[None], 2, 1, num_iterations=50)
        np.testing.assert_allclose(alone[0], found, atol=1e-6)
