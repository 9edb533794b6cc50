"""Orders of replay: of a linear system, and of a chain for Q-learning."""

from typing import Any

import numpy as np

from keras_moe.data import IntrospectiveReplay
from keras_moe.data import ReverseReplay

_DIM, _STEPS, _BUFFER, _GAP = 5, 20_000, 100, 10
_STEP_SIZES = np.array([0.0001, 0.0002, 0.0005, 0.001, 0.002])
_VALIDATION, _TEST = 5, 10  # seeds
_STATES, _EPISODES, _DISCOUNT = 16, 30, 0.95
_RATES = (0.1, 0.2, 0.5, 1.0)
_ROUNDS, _BATCHES, _BATCH = 3, 5, 8


def linear_system(radius: float) -> dict[str, Any]:
    """Finds the matrix of a VAR(1) process by SGD, in three orders.

    Args:
        radius: the largest eigenvalue; the nearer to 1, the longer the memory.

    Returns:
        For each order the error, the Frobenius norm of the difference, at the
        step size that was best on the seeds of validation, and that size.
    """
    matrices, states = _trajectories(radius)
    replay = ReverseReplay(_BUFFER, _GAP)
    backwards = np.concatenate(list(replay.batches(np.zeros(_STEPS, int))))
    orders = {
        "reverse": backwards,
        "forward": np.arange(_STEPS),
        "random": np.random.default_rng(7).integers(0, _STEPS, _STEPS),
    }
    figures: dict[str, Any] = {}
    for name, order in orders.items():
        found = _identify(states, order)
        errors = np.linalg.norm(found - matrices[:, np.newaxis], axis=(-2, -1))
        best = int(errors[:_VALIDATION].mean(axis=0).argmin())
        figures[f"{name}_error"] = float(errors[_VALIDATION:, best].mean())
        figures[f"{name}_step_size"] = float(_STEP_SIZES[best])
    return figures


def _trajectories(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns matrices `[seeds, d, d]` and states `[seeds, steps + 1, d]`."""
    seeds = _VALIDATION + _TEST
    generator = np.random.default_rng(0)
    turns, _ = np.linalg.qr(generator.normal(size=(seeds, _DIM, _DIM)))
    scaled = turns * np.linspace(0.1, radius, _DIM)
    matrices = scaled @ np.swapaxes(turns, -1, -2)
    states = np.zeros((seeds, _STEPS + 1, _DIM))
    for t in range(_STEPS):
        noise = generator.normal(size=(seeds, _DIM))
        states[:, t + 1] = _times(matrices, states[:, t]) + noise
    return matrices, states


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., np.newaxis])[..., 0]


def _identify(states: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns `[seeds, step sizes, d, d]`, means over the later weights."""
    shape = (len(states), len(_STEP_SIZES), _DIM, _DIM)
    weights, total, count = np.zeros(shape), np.zeros(shape), 0
    rates = 2 * _STEP_SIZES[:, np.newaxis, np.newaxis]
    for update, t in enumerate(order, 1):
        x, y = states[:, np.newaxis, t], states[:, np.newaxis, t + 1]
        error = _times(weights, x) - y
        weights -= rates * error[..., np.newaxis] * x[..., np.newaxis, :]
        if update > len(order) // 2 and update % _BUFFER == 0:
            total, count = total + weights, count + 1
    return total / count


def chain() -> dict[str, Any]:
    """Learns values of a chain with a reward at its end, from few updates.

    Returns:
        Of either order the mean error of values over the states, at the rate
        that was best on the seeds of validation, and that rate.
    """
    figures: dict[str, Any] = {}
    for name in ("introspective", "uniform"):
        errors = np.array(
            [
                [_learn(name, rate, seed) for rate in _RATES]
                for seed in range(5 + 5)
            ]
        )
        best = int(errors[:5].mean(axis=0).argmin())
        figures[f"{name}_error"] = float(errors[5:, best].mean())
        figures[f"{name}_rate"] = _RATES[best]
    return figures


def _learn(order: str, rate: float, seed: int) -> float:
    """Returns the error of Q-learning, on a batch of random episodes."""
    generator = np.random.default_rng(seed)
    state, action, after, reward, episode = _walk(generator)
    values = np.zeros((_STATES, 2))

    def errors(rows: np.ndarray) -> np.ndarray:
        is_last = after[rows] == _STATES - 1
        ahead = np.where(is_last, 0, values[after[rows]].max(axis=-1))
        target = reward[rows] + _DISCOUNT * ahead
        return target - values[state[rows], action[rows]]

    replay, everything = (
        IntrospectiveReplay(_BATCH, _BATCHES),
        np.arange(len(state)),
    )
    for _ in range(_ROUNDS):
        if order == "introspective":
            batches = list(replay.batches(errors(everything), episode))
        else:
            batches = list(
                generator.integers(0, len(state), (_BATCHES, _BATCH))
            )
        for batch in batches:
            # One after the other, in the order of the batch, in either case.
            for row in batch:
                found = errors(row[np.newaxis])[0]
                values[state[row], action[row]] += rate * found
    known = _DISCOUNT ** np.arange(_STATES - 2, -1, -1)
    return float(np.abs(values[:-1].max(axis=-1) - known).mean())


def _walk(generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Returns the transitions of random walks that end at the right."""
    rows = []
    for episode in range(_EPISODES):
        state = 0
        while state < _STATES - 1:
            action = int(generator.random() < 0.7)
            after = max(state + (1 if action else -1), 0)
            rows.append((state, action, after, after == _STATES - 1, episode))
            state = after
    return tuple(np.array(column, int) for column in zip(*rows, strict=True))
