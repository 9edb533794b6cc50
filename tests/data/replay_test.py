import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.data import IntrospectiveReplay
from keras_moe.data import ReverseReplay

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def ids_of(lengths):
    return np.repeat(np.arange(len(lengths)) % 2, lengths)


def times(indices, n, newest):
    """How long after the oldest each transition was."""
    return (np.asarray(indices) - newest - 1) % n


@given(
    LENGTHS, st.integers(1, 5), st.integers(0, 3), st.integers(1, 5), st.data()
)
def test_reverse_replay_keeps_to_its_rules(lengths, size, gap, batch, draw):
    ids, n = ids_of(lengths), sum(lengths)
    newest = draw.draw(st.integers(0, n - 1))
    batch = min(batch, size)
    given = np.roll(ids, newest + 1)  # the oldest right behind the newest
    episode = np.repeat(np.arange(len(lengths)), lengths)
    found = list(ReverseReplay(size, gap, batch).batches(given, newest))
    when = [times(indices, n, newest) for indices in found]
    for each in when:
        assert 1 <= len(each) <= batch
        assert (np.diff(each) == -1).all()
        assert len(set(episode[each])) == 1
    seen = np.concatenate([*when, []]).astype(int)
    assert len(set(seen)) == len(seen)
    expected = [
        t
        for t in range(n)
        if (t - sum(lengths[: episode[t]])) % (size + gap) >= gap
    ]
    assert sorted(seen) == expected


def test_buffers_follow_each_other_forwards():
    replay = ReverseReplay(buffer_size=4, gap=1, batch_size=3)
    found = [b.tolist() for b in replay.batches(np.zeros(12, int))]
    assert found == [[4, 3, 2], [1], [9, 8, 7], [6], [11]]


@given(LENGTHS, st.integers(1, 6), st.integers(1, 30), st.data())
def test_introspective_replay_keeps_to_its_rules(lengths, size, count, draw):
    ids, n = ids_of(lengths), sum(lengths)
    newest = draw.draw(st.integers(0, n - 1))
    errors = np.array(
        draw.draw(
            st.lists(st.sampled_from([-2.0, 0.5, 1.0]), min_size=n, max_size=n)
        )
    )
    given = np.roll(ids, newest + 1)
    rolled = np.roll(errors, newest + 1)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    found = list(
        IntrospectiveReplay(size, count).batches(rolled, given, newest)
    )
    pivots = sorted(range(n), key=lambda t: (-abs(errors[t]), t))[:count]
    assert len(found) == len(pivots)
    for pivot, indices in zip(pivots, found, strict=True):
        when = times(indices, n, newest)
        assert pivot in when
        assert (np.diff(when) == -1).all()
        assert set(episode[when]) == {episode[pivot]}
        # Shorter than asked for only where the episode is.
        assert len(when) == min(size, lengths[episode[pivot]])
        if pivot - size + 1 >= sum(lengths[: episode[pivot]]):
            assert when[0] == pivot


def error_of(order, states, gamma):
    """Error of the mean over the later weights of a system's matrix."""
    dim = states.shape[1]
    weights, kept = np.zeros((dim, dim)), []
    for at, t in enumerate(order):
        x, y = states[t], states[t + 1]
        weights = weights - 2 * gamma * np.outer(weights @ x - y, x)
        if at >= len(order) // 2 and at % 100 == 99:
            kept.append(weights)
    return np.mean(kept, axis=0)


def test_a_linear_system_is_found_with_less_error_backwards():
    """VAR(1): the noise of a step is in the state that the next one reads."""
    generator = np.random.default_rng(0)
    dim, steps = 5, 20_000
    turn, _ = np.linalg.qr(generator.normal(size=(dim, dim)))
    matrix = 0.9 * turn
    states = np.zeros((steps + 1, dim))
    for t, noise in enumerate(generator.normal(size=(steps, dim))):
        states[t + 1] = matrix @ states[t] + noise
    replay = ReverseReplay(buffer_size=100, gap=10)
    backwards = np.concatenate(list(replay.batches(np.zeros(steps, int))))
    forwards = np.arange(steps)
    errors = [
        np.linalg.norm(error_of(order, states, 0.005) - matrix)
        for order in (backwards, forwards)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_nothing_yields_nothing():
    none = np.zeros(0, int)
    assert list(ReverseReplay(3).batches(none)) == []
    assert list(IntrospectiveReplay(3, 2).batches(none, none)) == []


def test_an_episode_shorter_than_the_batch_is_a_shorter_batch():
    ids = [0, 0, 1, 1, 1]
    found = IntrospectiveReplay(4, 1).batches([0, 9, 0, 0, 0], ids)
    assert [b.tolist() for b in found] == [[1, 0]]
    found = ReverseReplay(4, batch_size=4).batches(ids)
    assert [b.tolist() for b in found] == [[1, 0], [4, 3, 2]]
    # One that is no longer than the gap is left out.
    found = ReverseReplay(4, gap=2, batch_size=4).batches(ids)
    assert [b.tolist() for b in found] == [[4]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReverseReplay(0), "buffer_size=0"),
        (lambda: ReverseReplay(3, gap=-1), "gap=-1"),
        (lambda: ReverseReplay(3, batch_size=4), "batch_size=4, buffer_size=3"),
        (lambda: IntrospectiveReplay(0, 1), "batch_size=0"),
        (lambda: IntrospectiveReplay(1, 0), "num_batches=0"),
        (lambda: list(ReverseReplay(3).batches([0.5])), "dtype=float64"),
        (lambda: list(ReverseReplay(3).batches([[0]])), r"shape=\(1, 1\)"),
        (lambda: list(ReverseReplay(3).batches([0], newest=1)), "newest=1"),
        (
            lambda: list(IntrospectiveReplay(1, 1).batches([1.0], [0, 0])),
            r"one for each transition, \(2,\).*shape=\(1,\)",
        ),
        (
            lambda: list(IntrospectiveReplay(1, 1).batches([np.nan], [0])),
            "1 that are not",
        ),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
