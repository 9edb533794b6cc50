import pytest
import tensorflow as tf

from keras_moe.training._epoch_batches import EpochBatches

STRATEGY = tf.distribute.get_strategy()
# Batches [0, 1], [2, 3], [4, 5], [6].
DATA = tf.data.Dataset.range(7).batch(2)


def first_numbers(batches, count=None):
    """Takes batches, and returns the first number of each."""
    numbers = []
    while count is None or len(numbers) < count:
        batch = batches.iterator.get_next_as_optional()
        if not batch.has_value():
            break
        numbers.append(int(batch.get_value()[0]))
    batches.advance(len(numbers))
    return numbers


@pytest.mark.parametrize("batch", range(5))
def test_seeks_a_batch_of_an_epoch(batch):
    batches = EpochBatches(DATA, STRATEGY)
    for epoch in (0, 3):
        batches.seek(epoch, batch)
        assert batches.num_batches == batches.length(epoch) == 4
        assert first_numbers(batches) == [0, 2, 4, 6][batch:]


def test_a_data_set_goes_on_in_the_next_epoch():
    batches = EpochBatches(DATA, STRATEGY, steps_per_epoch=3)
    assert batches.length(0) == 3
    taken, iterators = [], set()
    for epoch in range(3):
        batches.seek(epoch)
        iterators.add(id(batches.iterator))
        taken += first_numbers(batches, 3)
    assert taken == [0, 2, 4, 6] * 2 + [0]
    # One iterator goes through all epochs: no batch is read twice.
    assert len(iterators) == 1
    # Another process, which begins in the third epoch, sees the same.
    other = EpochBatches(DATA, STRATEGY, steps_per_epoch=3)
    other.seek(2, 1)
    assert first_numbers(other, 2) == [6, 0]
    # The trainer goes back after a bad batch.
    batches.seek(1, 1)
    assert first_numbers(batches, 2) == [0, 2]


def test_a_function_gives_the_data_of_each_epoch():
    def data(epoch):
        return tf.data.Dataset.range(10 * epoch, 10 * epoch + 7).batch(2)

    batches = EpochBatches(data, STRATEGY, steps_per_epoch=3)
    batches.seek(2, 1)
    assert batches.num_batches == batches.length(2) == 3
    assert first_numbers(batches) == [22, 24]
    # Shorter than wanted.
    assert EpochBatches(data, STRATEGY, steps_per_epoch=9).length(0) == 4


def test_an_unknown_length_is_none():
    batches = EpochBatches(DATA.filter(lambda x: True), STRATEGY)
    assert batches.length(0) is None
    batches.seek(0, 2)
    assert batches.num_batches is None
    assert first_numbers(batches) == [4, 6]


def test_batches_are_described():
    spec = EpochBatches(lambda epoch: DATA, STRATEGY).element_spec(1)
    assert spec == tf.TensorSpec([None], tf.int64)


def test_refuses_what_is_no_finite_data_set():
    with pytest.raises(ValueError, match="`data` must be a `tf.data.Dataset`"):
        EpochBatches([1, 2], STRATEGY)
    with pytest.raises(ValueError, match=r"must return .* data\(3\)=3"):
        EpochBatches(lambda epoch: epoch, STRATEGY).seek(3)
    endless = EpochBatches(DATA.repeat(), STRATEGY)
    for method in (endless.seek, endless.length):
        with pytest.raises(ValueError, match="`data` must have an end"):
            method(0)
