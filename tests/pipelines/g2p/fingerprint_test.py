"""Each component's fingerprint is of the code that it runs."""

import pytest

from keras_moe.orchestration import _code_fingerprint
from pipelines.g2p import fingerprint


@pytest.fixture
def files(monkeypatch):
    """Names the files of a fingerprint, instead of their digest."""
    monkeypatch.setattr(
        _code_fingerprint,
        "_fingerprint",
        lambda *modules: set(_code_fingerprint.source_files(*modules)),
    )
    return lambda name: getattr(fingerprint, f"{name}_fingerprint")()


def test_preprocessing(files):
    assert files("preprocessing") == {
        "pipelines/g2p/modules/preprocessing.py",
        "pipelines/g2p/modules/text.py",
        "pipelines/g2p/phonemes.py",
    }


def test_trainer(files):
    found = files("trainer")
    assert {
        "pipelines/g2p/modules/trainer.py",
        "pipelines/g2p/modules/student.py",
        "pipelines/g2p/modules/exits.py",
        "keras_moe/layers/moe/_sparse_moe.py",
    } <= found
    # How a model is exported is a part of it; how it is served is not.
    assert "keras_moe/serving/exporting/_export.py" in found
    assert "keras_moe/serving/server/_server.py" not in found
    assert not any(name.startswith("keras_moe/components") for name in found)
    assert "pipelines/g2p/demo.py" not in found


def test_evaluation(files):
    assert {
        "keras_moe/components/evaluation/_sequence_error_rate.py",
        "keras_moe/metrics/_edit_distance.py",
    } <= files("evaluation")


def test_report(files):
    assert {
        "pipelines/g2p/modules/routing.py",
        "keras_moe/visualization/_plot_expert_load.py",
    } <= files("report")
