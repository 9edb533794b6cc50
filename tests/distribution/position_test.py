import json

import pytest

from keras_moe.distribution.position import Position


def test_json_reads_back():
    position = Position(2, 7, 40, ((0, 3), (1, 1)))
    assert Position.from_json(position.to_json()) == position
    assert Position.from_json("{}") == Position()


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
        Position.from_json(json.dumps(fields))
