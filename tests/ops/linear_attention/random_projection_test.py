import numpy as np
import pytest
import tensorflow as tf

from keras_moe.ops import random_projection

DIM = 6


def draw(kind="orthogonal", heads=1, draws=2 * DIM, **arguments):
    return np.asarray(random_projection(heads, draws, DIM, kind, **arguments))


def directions(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("draws", [1, DIM - 1, DIM, 2 * DIM + 1])
@pytest.mark.parametrize("kind", ["orthogonal", "simplex", "iid"])
def test_shape(kind, draws):
    assert draw(kind, 3, draws).shape == (3, draws, DIM)


@pytest.mark.parametrize(
    "kind, cosine", [("orthogonal", 0.0), ("simplex", -1.0 / (DIM - 1))]
)
def test_angles_within_a_block(kind, cosine):
    rows = directions(draw(kind, heads=4)).reshape(4, 2, DIM, DIM)
    cosines = np.einsum("hbid,hbjd->hbij", rows, rows)
    off_diagonal = cosines[..., ~np.eye(DIM, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, cosine, atol=1e-5)


@pytest.mark.parametrize("kind", ["orthogonal", "simplex", "iid"])
def test_each_row_is_standard_normal(kind):
    rows = draw(kind, heads=4000, draws=DIM)
    count = rows.shape[0]
    for row in (0, 1, DIM - 1):
        x = rows[:, row]
        # Five standard errors: of a mean, a variance, a fourth moment.
        np.testing.assert_allclose(x.mean(0), 0.0, atol=5 / count**0.5)
        covariance = x.T @ x / count
        np.testing.assert_allclose(
            covariance, np.eye(DIM), atol=5 * (2 / count) ** 0.5
        )
        np.testing.assert_allclose(
            (x**4).mean(0), 3.0, atol=5 * (96 / count) ** 0.5
        )


def test_lengths_are_independent_of_each_other_and_of_directions():
    rows = draw(heads=4000, draws=DIM)
    lengths = np.linalg.norm(rows, axis=-1)
    correlations = np.corrcoef(lengths.T)[~np.eye(DIM, dtype=bool)]
    assert np.abs(correlations).max() < 5 / 4000**0.5
    first = np.abs(directions(rows)[:, 0, 0])
    assert abs(np.corrcoef(first, lengths[:, 0])[0, 1]) < 5 / 4000**0.5


def test_seeds_and_draws_are_stateless():
    expected = draw(seed=3, draw=2)
    np.testing.assert_array_equal(draw(seed=3, draw=2), expected)
    in_graph = tf.function(
        lambda number: random_projection(1, 2 * DIM, DIM, seed=3, draw=number),
        autograph=False,
    )
    np.testing.assert_allclose(in_graph(2), expected, atol=1e-6)
    for other in ({"seed": 3, "draw": 1}, {"seed": 4, "draw": 2}):
        assert np.abs(draw(**other) - expected).max() > 0.1


def test_heads_differ():
    first, second = draw(heads=2)
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1, 2, 3, "gaussian"), "`kind` must be"),
        ((1, 2, 1, "simplex"), "dim=1"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_projection(*arguments)
