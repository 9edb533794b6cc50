"""The benchmark of the served round trip runs, on the toy model."""

import json

import pytest

from benchmarks import serving_round_trip


def test_measures_and_writes(models, tmp_path):
    path = tmp_path / "result.json"

    serving_round_trip.main(
        ["--model", str(models[1]), "--rounds", "20", "--json", str(path)]
    )

    (claim,) = json.loads(path.read_text())["claims"]
    assert claim["name"] == "grpc_overhead_ms"
    assert (claim["target"], claim["relation"]) == (1.0, "<=")
    assert 0 < claim["value"] < 1000


def test_says_where_a_model_comes_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="run `make demo` first"):
        serving_round_trip.main([])
    with pytest.raises(SystemExit, match="--model must be a SavedModel"):
        serving_round_trip.main(["--model", str(tmp_path)])
