import json
import zipfile

import keras
import numpy as np
import pytest

from keras_moe import calibration
from keras_moe.calibration import DeferralRule
from keras_moe.command._facts_of_keras_file import _optimizer_of
from keras_moe.layers import SparseMoE
from keras_moe.retrieval import FaissIndex
from keras_moe.retrieval import OperatingPoint
from keras_moe.retrieval import TunedIndex
from keras_moe.retrieval._confirmation import certify_target
from keras_moe.serving import push_version
from keras_moe.weights import fingerprint
from tests.command.command_line import facts
from tests.command.command_line import refusal
from tests.command.command_line import run
from tests.serving import toy_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("inspected")
    model().save(folder / "model.keras")
    certificate().save(folder / "certificate.json")
    DeferralRule(stages=("a", "b"), threshold=0.25).save(folder / "rule.json")
    tuned().save(folder / "tuned.json")
    return folder


def model():
    inputs = keras.Input((4, 8))
    x = keras.layers.Dropout(0.1)(inputs)
    x = SparseMoE(2, hidden_dim=16)(x)
    inner = keras.Sequential([keras.Input((4, 8)), keras.layers.Dense(3)])
    model = keras.Model(inputs, inner(x), name="mine")
    model.compile("adam", "mse", metrics=["mae"])
    # The optimizer's moments are no parameters.
    model.optimizer.build(model.trainable_variables)
    return model


def certificate():
    return calibration.calibrate(
        np.zeros([200, 2]),
        [0.9, 0.5],
        tolerance=0.05,
        policy={"confidence": "softmax"},
        fingerprint="2:" + 64 * "a",
    )


def tuned():
    frontier = tuple(
        OperatingPoint({"lists": n}, 100.0 * n, recall)
        for n, recall in ((1, 0.6), (2, 0.95), (3, 0.99))
    )
    granted = certify_target(
        frontier, 0.9, lambda _: np.ones(300), 0.95, "betting", 10, "print"
    )
    return TunedIndex(None, 10, frontier, granted)


def test_keras_file(folder):
    path = folder / "model.keras"
    loaded = keras.saving.load_model(path)
    found = facts("inspect", path, "--fingerprint")
    assert found["kind"] == "Keras model"
    assert found["name"] == "mine"
    assert found["keras_version"] == keras.__version__
    assert found["parameters"] == loaded.count_params()
    assert found["parameters_by_dtype"] == {"float32": loaded.count_params()}
    assert found["file_bytes"] == path.stat().st_size
    assert found["optimizer"] == "Adam"
    assert found["layers"] == {
        **{"InputLayer": 2, "Dropout": 1, "Sequential": 1, "Dense": 1},
        "keras_moe>SparseMoE": 1,
    }
    assert found["fingerprint"] == fingerprint(loaded)


def test_parameters_are_counted_by_dtype(tmp_path):
    layer = keras.layers.Dense(3, dtype="bfloat16")
    keras.Sequential([keras.Input([2]), layer]).save(tmp_path / "m.keras")
    found = facts("inspect", tmp_path / "m.keras")
    assert found["parameters_by_dtype"] == {"bfloat16": 9}


def test_a_keras_file_is_not_loaded(folder, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", None)
    assert (
        "keras_moe>SparseMoE: 1"
        in run("inspect", folder / "model.keras").stdout
    )


def test_an_optimizer_that_is_not_said():
    assert _optimizer_of({"compile_config": [1]}) is None
    assert _optimizer_of({"compile_config": {"optimizer": "adam"}}) == "adam"


def test_certificate(folder):
    found = facts("inspect", folder / "certificate.json")
    assert found["kind"] == "certificate"
    assert found["threshold"] == 0.5
    assert found["risk"] == 0.0
    assert found["policy"] == {"confidence": "softmax"}
    assert found["digest"] == certificate().digest


def test_deferral_rule(folder):
    found = facts("inspect", folder / "rule.json")
    assert found["kind"] == "deferral rule"
    assert found["threshold"] == 0.25
    assert found["stages"] == ["a", "b"]


def test_tuned_index(folder):
    found = facts("inspect", folder / "tuned.json")
    assert found["kind"] == "tuned index"
    assert found["certified_recall"] == pytest.approx(0.9)
    assert found["settings"] == {"lists": 2}
    assert found["bytes_per_query"] == 200.0
    assert found["measured_recall"] == 1.0


@pytest.mark.large  # imports faiss
def test_faiss_index(tmp_path):
    rows = np.random.default_rng(0).normal(size=(100, 4))
    FaissIndex(rows, k=3).save(tmp_path / "index")
    found = facts("inspect", tmp_path / "index")
    assert found["kind"] == "FaissIndex"
    assert (found["candidates"], found["k"]) == (100, 3)
    assert found["settings"]["candidates_to_rescore"] == 30


def test_saved_model(tmp_path):
    saved = toy_model.save(tmp_path / "saved", 1.0)
    version = push_version(saved, tmp_path / "served", origin="run 1")
    found = facts("inspect", version)
    assert found["kind"] == "SavedModel"
    assert set(found["signatures"]) == set(toy_model.SIGNATURES)
    assert found["signatures"]["ratio"] == {
        "inputs": {"pair": "float32 [None, 2]"},
        "outputs": {"ratio": "float32 [None]"},
    }
    assert found["pushed_from"] == "run 1"
    assert found["certificate"] is None
    sizes = [p.stat().st_size for p in version.rglob("*") if p.is_file()]
    assert found["bytes"] == sum(sizes)
    assert "inputs: pair float32 [None, 2]" in run("inspect", version).stdout
    assert f"the newest is {version}" in refusal("inspect", version.parent)
    (version / "saved_model.pb").write_bytes(b"\xff\xff")
    assert "Could not read the SavedModel" in refusal("inspect", version)


def test_what_is_refused(folder, tmp_path):
    document = json.loads((folder / "certificate.json").read_text())
    (tmp_path / "lies.json").write_text(
        json.dumps(document | {"threshold": 0.7})
    )
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "list.json").write_text("[" * 100_000)
    (tmp_path / "bytes").write_bytes(b"\x00\xff")
    whole = (folder / "model.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    for name, config in (("bad.keras", "{"), ("bare.keras", "{}")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("metadata.json", "{}")
    damaged = bytearray(whole)
    place = whole.index(b"config.json") + len("config.json") + 20
    damaged[place : place + 8] = b"\xff" * 8
    (tmp_path / "damaged.keras").write_bytes(damaged)
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_graph").mkdir()
    (tmp_path / "no_graph/saved_model.pb").touch()
    for name, words in {
        "none": "must be a file or a directory: there is no such file",
        "lies.json": "is not a certificate. `threshold` must be one of",
        "other.json": "with the fields ['a']",
        "list.json": "no JSON",
        "bytes": "no JSON",
        "half.keras": "no JSON",
        "any.zip": "if it is an archive",
        "bad.keras": "config.json as JSON",
        "bare.keras": "model.weights.h5",
        "damaged.keras": "config.json",
        "empty": "has no saved_model.pb",
        "no_graph": "must hold a graph with the tag 'serve'",
    }.items():
        assert words in refusal("inspect", tmp_path / name), name
    said = refusal("inspect", folder / "rule.json", "--fingerprint")
    assert "is for a `.keras` file" in said
