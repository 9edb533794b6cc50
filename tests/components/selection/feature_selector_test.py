"""Which features of examples are kept, what is written, what is refused."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe.components.selection._feature_selector import (
    FeatureSelectorExecutor,
)
from keras_moe.orchestration import write_records
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files
from tests.components.remote_store import moved
from tests.components.remote_store import remote_store

pytestmark = pytest.mark.tfx

SETTINGS = {
    "label_key": "label",
    "num_features": 3,
    "num_per_step": 1,
    "steps_per_pick": 60,
    "fresh_steps": 100,
    "learning_rate": 0.01,
    "batch_size": 64,
    "always": ["id"],
    "train_split": "train",
    "evaluation_split": "eval",
    "max_examples": 600,
    "seed": 0,
}
KINDS = {
    "id": "BYTES",
    "label": "INT",
    "grade": "FLOAT",
    "colour": "FLOAT",  # three numbers
    "copy": "FLOAT",  # of colour
    "city": "BYTES",
    "noise": "FLOAT",
    "count": "INT",
    "constant": "INT",
    "broken": "FLOAT",
    "words": "BYTES",  # several
    "never": "FLOAT",
}


def feature(value):
    values = np.atleast_1d(value).tolist()
    made = tf.train.Feature()
    if not values:
        return made
    if isinstance(values[0], str):
        made.bytes_list.value.extend(each.encode() for each in values)
    elif isinstance(values[0], int):
        made.int64_list.value.extend(values)
    else:
        made.float_list.value.extend(values)
    return made


def rows(count, seed=0):
    random = np.random.default_rng(seed)
    for number in range(count):
        colour = random.normal(size=3)
        city = random.integers(3)
        grade = random.normal()
        score = colour.sum() + 2.0 * (city == 1) + grade - 0.6
        row = {
            "id": f"row {number}",
            "label": int(score > 0),
            "grade": float(100 * grade + 5000),
            "colour": colour,
            "copy": colour + 0.5 * random.normal(size=3),
            "city": ["Oslo", "Rome", "Bern"][city],
            "noise": float(random.normal()),
            "count": int(random.integers(9)),
            "constant": 7,
            "broken": float("nan") if number % 50 == 3 else 1.5 * number,
            "words": ["a"] * int(random.integers(3)),
            "never": [],
        }
        if number % 9 == 4:
            row["noise"] = []  # missing
        yield row


def schema_of(kinds):
    schema = schema_pb2.Schema()
    for name, kind in kinds:
        schema.feature.add(name=name, type=schema_pb2.FeatureType.Value(kind))
    return schema


def make(folder, data, kinds=None):
    examples = artifact(
        standard_artifacts.Examples, folder / "x", ["train", "eval"]
    )
    for split, part in zip(("train", "eval"), data, strict=True):
        write_records(
            folder / "x" / f"Split-{split}" / "part.gz",
            [
                tf.train.Example(
                    features=tf.train.Features(
                        feature={k: feature(v) for k, v in row.items()}
                    )
                )
                for row in part
            ],
        )
    schema = artifact(standard_artifacts.Schema, folder / "schema")
    text = text_format.MessageToString(schema_of(kinds or KINDS.items()))
    (folder / "schema" / "schema.pbtxt").write_text(text)
    return {"examples": [examples], "schema": [schema]}


def run(inputs, place, **settings):
    outputs = {
        "kept_schema": [artifact(standard_artifacts.Schema, f"{place}/kept")],
        "selection": [artifact(components.FeatureSelection, f"{place}/report")],
    }
    FeatureSelectorExecutor().Do(
        inputs, outputs, {"settings": json.dumps({**SETTINGS, **settings})}
    )
    return outputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    data = list(rows(700)), list(rows(300, seed=1))
    return make(tmp_path_factory.mktemp("data"), data)


@pytest.fixture(scope="module")
def outputs(inputs, tmp_path_factory):
    return run(inputs, tmp_path_factory.mktemp("out"))


def report_of(outputs):
    (made,) = outputs["selection"]
    return json.loads(files(made.uri)["selection.json"])


def test_what_tells_most_is_kept_and_each_other_has_a_reason(outputs):
    (made,) = outputs["selection"]
    report = report_of(outputs)
    picked = components.read_selected_features(made.uri)
    assert report["selected"] == picked
    assert set(picked) == {"colour", "grade", "city"}
    assert json.loads(made.get_string_custom_property("selected")) == picked
    assert report["left_out"] == {
        "copy": "not picked",
        "noise": "not picked",
        "count": "not picked",
        "constant": "constant",
        "broken": "not finite",
        "never": "missing",
    }
    assert report["not_looked_at"] == ["words"]


def test_accuracy_grows_with_features(outputs):
    report = report_of(outputs)
    assert report["metric"] == "accuracy"
    assert [number for number, _ in report["curve"]] == [1, 2, 3]
    accuracies = [each for _, each in report["curve"]]
    assert accuracies[0] < accuracies[2] > 0.85
    assert report["of_all"] > 0.8
    picture = files(outputs["selection"][0].uri)["accuracy_by_features.png"]
    assert picture.startswith(b"\x89PNG")


def test_the_schema_has_what_is_kept(outputs):
    (kept,) = outputs["kept_schema"]
    text = files(kept.uri)["schema.pbtxt"].decode()
    schema = text_format.Parse(text, schema_pb2.Schema())
    assert [each.name for each in schema.feature] == [
        *("id", "label", "grade", "colour", "city", "words")
    ]
    assert schema.feature[1].type == schema_pb2.INT


def test_numbers_are_told_by_their_variance(inputs, tmp_path):
    report = report_of(
        run(
            inputs,
            tmp_path,
            label_key="grade",
            num_features=2,
            num_per_step=2,
            fresh_steps=30,
            always=["id", "broken"],
        )
    )
    assert report["metric"] == "r2" and len(report["selected"]) == 2
    assert "label" in report["selected"]
    assert 0.0 < report["curve"][-1][1] < 1.0


@pytest.mark.usefixtures("functions_run_eagerly")
def test_in_a_remote_store(inputs, monkeypatch, tmp_path):
    with remote_store(monkeypatch, tmp_path) as store:
        there = {
            key: [moved(value[0], f"{store}/{key}")]
            for key, value in inputs.items()
        }
        quick = {"num_features": 1, "steps_per_pick": 3, "fresh_steps": 3}
        found = run(there, store, **quick)
        assert len(report_of(found)["selected"]) == 1
        assert set(files(found["kept_schema"][0].uri)) == {"schema.pbtxt"}


def few(**changed):
    return [[{**row, **changed} for row in rows(40)]] * 2


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (few(), {"num_features": 8}, "at most the 6 features.*num_features=8"),
        (few(), {"label_key": "shoe"}, "feature of the schema.*'shoe'"),
        (few(), {"label_key": "words"}, "'words' of several"),
        (few(), {"label_key": "colour"}, "one value in each example"),
        (few(), {"label_key": "constant"}, "two values at least.*'constant'"),
        (few(label=[]), {}, "of which 40 examples have none"),
        (few(), {"label_key": "broken"}, "must be finite.*'broken'"),
        (few(), {"always": ["shoe"]}, r"must have the features \['shoe'\]"),
        ([[], []], {}, "`examples` must hold some"),
    ],
)
def test_what_cannot_be_selected_from(tmp_path, data, settings, message):
    inputs = make(tmp_path, data)
    with pytest.raises(ValueError, match=message):
        run(inputs, tmp_path / "out", **settings)
    assert not list(pathlib.Path(tmp_path / "out").rglob("*.*"))


def test_a_feature_named_twice(tmp_path):
    kinds = [*KINDS.items(), ("city", "BYTES")]
    inputs = make(tmp_path, few(), kinds)
    with pytest.raises(ValueError, match="`schema.feature` .*'city' twice"):
        run(inputs, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_features": 0}, "num_features=0"),
        ({"steps_per_pick": 0}, "steps_per_pick=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"always": ["id", "id"]}, "`always` must be .*'id' twice"),
        ({"always": ["label"]}, "`always` must be .*'label' twice"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_out_of_range(options, message):
    channels = {
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
    }
    from tfx import types

    made = {name: types.Channel(type=kind) for name, kind in channels.items()}
    options = {"label_key": "label", "num_features": 2, **options}
    with pytest.raises(ValueError, match=message):
        components.FeatureSelector(**made, **options)
