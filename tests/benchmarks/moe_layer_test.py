import pytest

from benchmarks.moe_layer.claims import add_ours
from benchmarks.moe_layer.claims import add_tf_models
from benchmarks.moe_layer.claims import add_transformers
from benchmarks.moe_layer.task import DENSE
from benchmarks.moe_layer.task import Task
from benchmarks.moe_layer.task import over_dense
from benchmarks.shared.report import Report


def ours(gather, ragged):
    times = {
        DENSE: 100.0,
        "gather": gather,
        "ragged": ragged,
        "gather_sequences": gather,
        "ragged_sequences": ragged,
        "einsum_sequences": 2.0,
        "ragged_fresh": 2.0,
    }
    return {
        "forward": times,
        "forward_backward": times,
        "traffic": {DENSE: 100.0, "read": 0.2, "write": 0.3},
        "kept_gather": 1.0,
        "kept_gather_sequences": 0.9,
    }


def test_claims():
    report = Report("test")
    mine = {8: ours(1.3, 1.0), 128: ours(2.0, 1.5)}
    add_ours(report, mine)
    groups = {DENSE: 100.0, "group_4096": 4.0, "group_512": 2.0}
    add_tf_models(report, mine, {8: {"forward_backward": groups}})
    add_transformers(
        report,
        mine,
        {8: {"forward_backward": {DENSE: 200.0, "layer": 0.8}, "kept": 0.9}},
    )
    claims = {claim.name: claim for claim in report.claims}
    assert claims["gather_over_dense_e8"].holds
    assert not claims["gather_over_dense_e128"].holds
    assert claims["ragged_over_dense_e128"].holds
    assert claims["speedup_over_tf_models_e8"].value == 4.0
    assert claims["over_transformers_e8"].value == 1.25
    assert report.figures["floor_e128_added_traffic"] == pytest.approx(1.7)
    assert report.figures["tf_models_best_group_e8"] == "group_512"


def test_over_dense():
    figures = over_dense({DENSE: lambda: sum(range(30000))}, rounds=3)
    assert figures[DENSE] > 0.0


def test_capacity_of_sequence():
    assert [Task(e).capacity_of_sequence for e in (8, 32, 128)] == [80, 20, 5]
