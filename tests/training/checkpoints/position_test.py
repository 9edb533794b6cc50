import json

import pytest

from keras_moe.training import Position


def test_json_reads_back():
    position = Position(2, 7, 40, ((0, 3), (1, 1)))
    fields = json.loads(json.dumps(position._asdict()))
    assert Position.from_dict(fields) == position
    assert Position.from_dict({}) == Position()


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": -1},
        {"batch": 1.5},
        {"step": "3"},
        {"skipped": [[1]]},
        {"skipped": 4},
        {"epoch": True},
        {"epochs": 1},
    ],
)
def test_refuses_what_is_no_position(fields):
    with pytest.raises(ValueError, match="Received"):
        Position.from_dict(fields)


def test_takes_no_more_than_up_to_where_something_is():
    position = Position(epoch=1, batch=2, skipped=((0, 3), (1, 5), (1, 1)))
    assert position.batches_to_take(total=9, max_batches=2) == 2
    assert position.batches_to_take(total=9, max_batches=8) == 3  # to (1, 5)
    assert position.batches_to_take(total=4, max_batches=8) == 2
    assert position.batches_to_take(None, 8, suspect=(1, 3)) == 1
    assert position.batches_to_take(None, 8, suspect=(0, 3)) == 3


def test_left_out_batches_are_kept_in_order_and_once():
    position = Position(skipped=((1, 2),)).with_skipped([(0, 4), (1, 2)])
    assert position.skipped == ((0, 4), (1, 2))
