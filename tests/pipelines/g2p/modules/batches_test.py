import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.g2p.modules import batches as batches_module
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches
from pipelines.g2p.modules.batches import training_batches
from tests.covering import covering

BUCKETS = (5, 6, 7, 8, 9, 10, 12, 16)


class Special:
    def __init__(self, pad_id=0, start_id=0):
        self.pad_id, self.start_id = pad_id, start_id


def make_pairs(rows, pad_id=0, seed=0):
    """Pairs of 2 to 19 tokens that say which they are; targets reversed."""
    random = np.random.default_rng(seed)
    source = np.full((rows, 20), pad_id)
    target = np.full((rows, 22), pad_id)
    for row, length in enumerate(random.integers(2, 20, rows)):
        ids = [*random.integers(100, 120, length - 1), 1000 + row]
        source[row, :length] = ids
        target[row, :length] = ids[::-1]
    return source, target


def rows_of(batch, pad_id=0):
    """The rows of a batch, without padding."""
    inputs, labels = batch
    pairs = zip(
        inputs["encoder_token_ids"].numpy(), labels.numpy(), strict=True
    )
    return [tuple(tuple(i[i != pad_id]) for i in pair) for pair in pairs]


def expected_rows(source, target, pad_id=0):
    pairs = zip(source, target, strict=True)
    return [tuple(tuple(i[i != pad_id]) for i in pair) for pair in pairs]


def content(batches):
    return [rows_of(batch) for batch in batches]


def bucket_of(pair):
    return int(np.searchsorted(BUCKETS, max(map(len, pair))))


@pytest.fixture
def small_pool(monkeypatch):
    """Pool and chunks so small that a pass takes many steps."""
    monkeypatch.setattr(batches_module, "_POOL", 100)
    monkeypatch.setattr(batches_module, "_PAIRS_AT_ONCE", 64)


@pytest.mark.parametrize(
    ("sizes", "seed"),
    covering([(1, 8), (500, 8), (512, 1), (40, 64)], [3, None], strength=1),
)
def test_a_pass_holds_each_pair_once(small_pool, sizes, seed):
    rows, size = sizes
    source, target = make_pairs(rows)
    pairs = functools.partial(array_pairs, source, target)
    if seed is None:
        batches = evaluation_batches(pairs, Special(), size)
    else:
        batches = training_batches(pairs, Special(), size, seed)(0)
    seen = content(batches)
    assert sorted(sum(seen, [])) == sorted(expected_rows(source, target))
    # One batch alone is short.
    sizes = sorted(map(len, seen), reverse=True)
    assert sizes == [size] * (rows // size) + [rows % size] * (rows % size > 0)


@pytest.mark.parametrize(
    "pad_id", [pytest.param(0, marks=pytest.mark.large), 25]
)
def test_batches_are_teacher_forced_and_no_longer_than_needed(pad_id):
    source, target = make_pairs(200, pad_id)
    # Ids of 0 are words like others where padding is another.
    source[source == 100] = target[target == 100] = 25 - pad_id
    pairs = functools.partial(array_pairs, source, target)
    special = Special(pad_id, start_id=2)
    for inputs, labels in training_batches(pairs, special, 7, 0)(0):
        ids = inputs["encoder_token_ids"].numpy()
        shifted = inputs["decoder_token_ids"].numpy()
        assert ids.dtype == shifted.dtype == labels.dtype == np.int32
        labels = labels.numpy()
        assert (ids[:, -1] != pad_id).any() and (labels[:, -1] != pad_id).any()
        assert (shifted[:, 0] == 2).all()
        assert (shifted[:, 1:] == labels[:, :-1]).all()
        for x, y in zip(ids, labels, strict=True):
            assert (x[x != pad_id] == y[y != pad_id][::-1]).all()


def test_padding_alone_keeps_a_column():
    ids = np.zeros((2, 3), int)
    pairs = functools.partial(array_pairs, ids, ids)
    ((inputs, labels),) = evaluation_batches(pairs, Special(), 2)
    assert inputs["encoder_token_ids"].shape == labels.shape == (2, 1)


def test_batches_are_of_one_bucket_until_the_pool_is_emptied(small_pool):
    source, target = make_pairs(2000)
    pairs = functools.partial(array_pairs, source, target)
    seen = content(training_batches(pairs, Special(), 8, 0)(0))
    mixed = [len({bucket_of(pair) for pair in rows}) > 1 for rows in seen]
    # The last batches of a pass hold the rests of neighbouring buckets.
    assert not any(mixed[: (2000 - 164) // 8])
    assert sum(mixed) <= len(BUCKETS)


def test_an_epoch_is_a_function_of_its_number_and_the_seed(small_pool):
    pairs = functools.partial(array_pairs, *make_pairs(300))

    def epochs(seed, *numbers):
        batches = training_batches(pairs, Special(), 16, seed)
        return [content(batches(number)) for number in numbers]

    (first,) = epochs(1, 0)
    keras.utils.set_random_seed(5)
    again, second = epochs(1, 0, 1)
    assert again == first
    others = [second, *epochs(2, 0), *epochs(0, 1)]
    assert all(other != first for other in others)
    assert others[0] != others[1] != others[2] != others[0]
    tf.random.set_seed(None)


def test_batches_come_in_random_order_of_length(small_pool):
    source, target = make_pairs(3000)
    pairs = functools.partial(array_pairs, source, target)
    seen = content(training_batches(pairs, Special(), 8, 0)(0))
    longest = [max(len(x) for x, _ in rows) for rows in seen]
    # Neighbours are as unlike as any two: no run of short or long batches.
    correlation = np.corrcoef(longest[:-1], longest[1:])[0, 1]
    assert abs(correlation) < 0.2


def test_pairs_of_a_file_are_mixed_as_far_as_the_pool_reaches(monkeypatch):
    source, target = make_pairs(4000)
    monkeypatch.setattr(batches_module, "_POOL", 1000)
    monkeypatch.setattr(batches_module, "_PAIRS_AT_ONCE", 100)
    # A source that ignores the seed, as a single file does.
    batches = training_batches(
        lambda seed: array_pairs(source, target), Special(), 16, 0
    )
    places = [
        np.array([x[-1] - 1000 for x, _ in rows])
        for rows in content(batches(0))
    ]
    spread = np.mean([place.std() for place in places])
    # A whole batch drawn from 1,000 neighbours has a deviation of 289.
    assert spread > 250
    assert (
        np.corrcoef(np.arange(len(places)), [p.mean() for p in places])[0, 1]
        > 0.9
    )


@pytest.mark.parametrize(
    "start", [pytest.param(1, marks=pytest.mark.large), 17]
)
def test_a_pass_can_be_entered_at_any_batch(small_pool, start):
    pairs = functools.partial(array_pairs, *make_pairs(300))
    batches = training_batches(pairs, Special(), 16, 7)
    assert content(batches(2).skip(start)) == content(batches(2))[start:]


def test_passes_follow_each_other_without_end(small_pool):
    pairs = functools.partial(array_pairs, *make_pairs(50))
    batches = training_batches(pairs, Special(), 16, 7)
    stream = tf.data.Dataset.counter().flat_map(batches)
    expected = content(batches(0)) + content(batches(1))
    assert content(stream.take(len(expected))) == expected


def test_an_evaluation_is_always_the_same():
    pairs = functools.partial(array_pairs, *make_pairs(300))
    batches = evaluation_batches(pairs, Special(), 16)
    seen = content(batches)
    assert content(batches) == seen
    whole = [rows for rows in seen if len({bucket_of(p) for p in rows}) == 1]
    assert len(whole) >= len(seen) - len(BUCKETS)


def test_no_pairs():
    ids = np.zeros((0, 4), int)
    pairs = functools.partial(array_pairs, ids, ids)
    assert not content(evaluation_batches(pairs, Special(), 16))
    assert not content(training_batches(pairs, Special(), 16, 0)(0))


def test_arrays_of_different_length():
    with pytest.raises(ValueError, match="39 and 40"):
        array_pairs(np.zeros((39, 2)), np.zeros((40, 2)))
