import pathlib

import pytest

from benchmarks.sharding.collectives import FOLDER_VARIABLE
from benchmarks.sharding.collectives import TRACING
from benchmarks.sharding.collectives import Collective
from benchmarks.sharding.collectives import read_collectives
from benchmarks.sharding.paper import SHAPES
from benchmarks.sharding.paper import table
from benchmarks.sharding.program import run

ROOT = pathlib.Path(__file__).parents[2]


def test_a_layer_makes_two_exchanges_no_larger_than_need_be(tmp_path):
    environment = {**TRACING, FOLDER_VARIABLE: str(tmp_path)}
    program = "benchmarks.sharding.traffic"
    (found,) = run(program, tmp_path, 2, 4, 8, **environment)
    assert found["all_to_all"] == 2
    assert found["exchange_bytes"] == found["ideal_exchange_bytes"]
    assert found["weight_bytes"] == found["all_weight_bytes"] / 4
    # Of 8 experts, float32, into and out of.
    assert found["all_weight_bytes"] == 8 * 2 * 64 * 128 * 4
    # What a mesh of two axes needs besides: each row joined anew from the
    # groups along "expert", its three other quarters from there.
    joined = 8 * 3 / 4 * (16 * 64 * 64 * 4) / 2
    assert joined <= found["other_bytes"] < 1.01 * joined


def test_what_a_device_sends():
    assert Collective("AllToAll", 80, 4).bytes_sent == 60
    assert Collective("AllReduce", 80, 4).bytes_sent == 120
    assert Collective("AllScatter", 80, 4).bytes_sent == 0


def test_a_process_that_wrote_nothing_down_is_named(tmp_path):
    with pytest.raises(ValueError, match=FOLDER_VARIABLE):
        read_collectives(tmp_path, {"expert": 2})


def test_the_guide_has_the_table():
    assert table() in (ROOT / "docs" / "distribution.md").read_text()


def test_shapes_have_their_published_sizes():
    # arXiv:2101.03961, table 9: 7, 26 and 395 billion, rounded.
    sizes = [s.expert_weights + s.dense_weights for s in SHAPES]
    assert [size / 1e9 for size in sizes] == pytest.approx(
        [7.4, 26, 395], rel=0.05
    )
