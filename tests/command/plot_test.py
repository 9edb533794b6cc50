import json

import numpy as np
import pytest

from keras_moe import calibration
from keras_moe.command._plot import _loads_of
from tests.command.command_line import facts
from tests.command.command_line import refusal
from tests.command.inspect_test import tuned

PNG = b"\x89PNG"
DEPTHS = {
    "tokens": [["K", "AE", "T"]],
    "exit_layers": [[1, 2, 1]],
    "num_layers": 4,
    "labels": ["cat"],
}
LOADS = {"load": [0.25, 0.75], "dropped": 0.1}
HISTORY = {
    "loss": [2.0, 1.0],
    "moe/expert_load": [[0.5, 0.5], [0.25, 0.75]],
    "moe/fraction_tokens_left_behind": [0.2, 0.1],
}
CALIBRATED = {
    **{"certificate": "c.json", "n": 100, "tolerance": 0.1},
    **{"certified_threshold": 0.9, "confidence_level": 0.95},
    **{"thresholds": [1.0, 0.9], "risks": [0.0, 0.02]},
    **{"p_values": [0.001, 0.01], "speeds": [4.0, 2.5]},
}


@pytest.fixture
def write(tmp_path):
    def write(document):
        path = tmp_path / "source.json"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("risk_versus_speed", CALIBRATED),
        ("expert_load", HISTORY),
        ("feature_curve", {"scores": {"1": 0.5, "2": 0.75}}),
    ],
)
def test_pictures(write, tmp_path, what, document):
    target = tmp_path / "out.png"
    found = facts("plot", what, write(document), target, "--title", "Mine")
    assert found == {"picture": what, "file": str(target)}
    assert target.read_bytes().startswith(PNG)


def test_a_page_of_exits(write, tmp_path):
    target = tmp_path / "out.html"
    facts("plot", "exit_depth", write(DEPTHS), target)
    assert "exit layer 2 of 4" in target.read_text()


def test_loads_of_benchmarks():
    loads = _loads_of({"moe": LOADS}, "source.json")
    assert (loads.names, loads.dropped) == (("moe",), (0.1,))
    np.testing.assert_array_equal(loads.loads[0], LOADS["load"])


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of `plot_risk_versus_speed`, in the place of a picture."""
    seen = {}

    def plot_risk_versus_speed(
        thresholds,
        risks,
        speeds,
        tolerance,
        certified_threshold=None,
        **others,
    ):
        seen.update(thresholds=thresholds, speeds=speeds, **others)

    name = "keras_moe.visualization.plot_risk_versus_speed"
    monkeypatch.setattr(name, plot_risk_versus_speed)
    return seen


def test_certificates_are_drawn_over_their_thresholds(
    drawn, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "keras_moe.command._plot._check_fields", lambda *_: None
    )
    granted = calibration.calibrate(np.zeros([200, 2]), [0.9, 0.5], 0.05)
    granted.save(tmp_path / "c.json")
    facts("plot", "risk_versus_speed", tmp_path / "c.json", tmp_path / "a.png")
    assert drawn["speeds"] == (0.9, 0.5)
    assert drawn["speed_label"] == "threshold"
    tuned().save(tmp_path / "t.json")
    facts("plot", "risk_versus_speed", tmp_path / "t.json", tmp_path / "a.png")
    assert drawn["speeds"] == (300.0, 200.0)
    assert drawn["speed_label"] == "bytes per query"
    assert drawn["risk_label"] == "1 - recall@10"


def test_what_is_refused(write, tmp_path):
    out = tmp_path / "out.png"
    for what, document, words in (
        ("exit_depth", {"tokens": [["a"]]}, "Missing: ['exit_layers', 'num_"),
        ("exit_depth", DEPTHS | {"path": "x"}, "unknown: ['path']"),
        ("expert_load", {"loss": [1.0]}, "`ExpertLoadCallback`, or by layer"),
        ("expert_load", {}, "`ExpertLoadCallback`, or by layer"),
        (
            "feature_curve",
            {"scores": {"a": 1.0}},
            "must be numbers of features",
        ),
        ("feature_curve", [1], "must hold an object. Received: a list"),
        ("risk_versus_speed", {"a": 1}, "is not a certificate"),
    ):
        assert words in refusal("plot", what, write(document), out), what
    said = refusal("plot", "expert_load", write({}), tmp_path / "out.html")
    assert "must end in '.png'" in said
    assert "must be JSON" in refusal("plot", "exit_depth", __file__, out)
    granted = calibration.calibrate(np.zeros([200, 2]), [0.0, -0.5], 0.05)
    granted.save(tmp_path / "c.json")
    said = refusal("plot", "risk_versus_speed", tmp_path / "c.json", out)
    assert "must have positive thresholds" in said
    assert not out.exists()
