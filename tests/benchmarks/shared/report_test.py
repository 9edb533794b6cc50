"""Reports: what is written, and when a claim holds."""

import json
import os

import pytest

from benchmarks.shared.report import Claim
from benchmarks.shared.report import Report


@pytest.fixture
def report():
    report = Report("Toy")
    report.add_claim("overhead_ms", 0.5, 1.0, "<=")
    report.add_claim("speed_up", 2.5, 3.0, ">=")
    report.add_figures({"rounds": 10, "unknown": float("nan")})
    return report


def test_written_as_promised(report, tmp_path):
    path = tmp_path / "results" / "toy.json"

    report.write(path)

    document = json.loads(path.read_text())
    assert document["claims"] == [
        {
            "name": "overhead_ms",
            "value": 0.5,
            "target": 1.0,
            "relation": "<=",
            "holds": True,
        },
        {
            "name": "speed_up",
            "value": 2.5,
            "target": 3.0,
            "relation": ">=",
            "holds": False,
        },
    ]
    assert "cores" in document["machine"]
    assert document["date"].endswith("+00:00")
    assert document["figures"] == {"rounds": 10, "unknown": None}
    assert os.listdir(path.parent) == ["toy.json"]
    assert not report.holds


def test_shown(report, capsys):
    report.show()

    shown = capsys.readouterr().out
    assert "overhead_ms" in shown
    assert "NO" in shown


@pytest.mark.parametrize("written", [False, True])
def test_a_claim_that_does_not_hold_is_told_to_the_shell(
    report, written, tmp_path, capsys
):
    path = tmp_path / "toy.json" if written else None
    assert report.finish(path) == 1
    assert "speed_up" in capsys.readouterr().out
    assert len(os.listdir(tmp_path)) == written
    report.claims.pop()
    assert report.finish(path) == 0


def test_what_is_not_a_number_holds_nothing():
    assert not Claim("x", float("nan"), 1.0, "<=").holds
    with pytest.raises(ValueError, match="`relation` must be one of"):
        Claim("x", 1.0, 1.0, "~").holds  # noqa: B018


def test_another_report_is_included(report, tmp_path):
    report.add_claim("undefined", float("nan"), 1.0, "<=")
    report.write(tmp_path / "toy.json")

    whole = Report("Whole")
    whole.include(tmp_path / "toy.json")

    assert whole.claims[:2] == report.claims[:2]
    assert whole.claims[2].value != whole.claims[2].value
    assert not whole.claims[2].holds
    assert whole.figures["rounds"] == 10
    assert whole.figures["unknown"] != whole.figures["unknown"]
