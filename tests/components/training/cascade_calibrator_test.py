"""The executor on two tiny classifiers, with a task of this module."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tfx import types
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.components.training._cascade_calibrator import (
    CascadeCalibratorExecutor,
)
from keras_moe.orchestration import write_records
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

_ROWS = {"train": 50, "validation": 400, "calibration": 500, "empty": 0}
_SPEC = {
    "x": tf.io.FixedLenFeature([3], tf.float32),
    "label": tf.io.FixedLenFeature([], tf.int64),
}


def _example(x, label, backwards=False):
    """An example; its features in either order are the same example."""
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=x)),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    made = tf.train.Example()
    for name in sorted(features, reverse=backwards):
        made.features.feature[name].CopyFrom(features[name])
    return made


def task(args):
    """What a project says."""
    options = args.custom_config
    paths = sorted(tf.io.gfile.glob(list(args.example_files)))
    records = list(tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator())
    rows = tf.io.parse_example(records, _SPEC)
    labels = rows["label"].numpy()

    def export(directory, cascade, certificate):
        features = tf.TensorSpec([None, 3], tf.float32, name="x")
        serving.export_endpoints(
            directory,
            {"serving_default": (lambda x: cascade(x), [features])},
            assets={"model.keras": cascade.save},
            certificate=None if options.get("forgets") else certificate,
        )

    return components.CalibrationTask(
        rows["x"].numpy(), None, export, labels * options.get("labels", 1)
    )


def _classifier(weight):
    """Knows as much of the label as it gives weight to the second column."""
    inputs = keras.Input([3])
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, dense(inputs))
    kernel = np.array([[0.0, 3.0], [0.0, weight], [0.0, 0.0]])
    dense.set_weights([kernel, np.zeros(2)])
    return model


def _kept(model, directory):
    made = artifact(standard_artifacts.Model, directory)
    extra = pathlib.Path(made.uri, "Format-Serving", "assets.extra")
    extra.mkdir(parents=True)
    model.save(extra / "model.keras")
    return made


def _examples(directory, rows=_ROWS, leak=None):
    rng = np.random.default_rng(0)
    made = artifact(standard_artifacts.Examples, directory, list(rows))
    first = {}
    for split, n in rows.items():
        x = rng.normal(size=(n, 3)).astype("float32")
        labels = (3 * x[:, 0] + 6 * x[:, 1] > 0).astype(int)
        examples = [_example(*row) for row in zip(x, labels, strict=True)]
        first[split] = (x[:1], labels[:1])
        if leak and split == leak[1]:
            (x,), (label,) = first[leak[0]]
            examples.append(_example(x, label, backwards=True))
        write_records(
            pathlib.Path(made.uri, f"Split-{split}", "examples.gz"), examples
        )
    return made


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two models, the large one always right, and examples of them."""
    folder = tmp_path_factory.mktemp("given")
    return {
        "small": [_kept(_classifier(1), folder / "small")],
        "large": [_kept(_classifier(6), folder / "large")],
        "examples": [_examples(folder / "examples")],
    }


def _component(**arguments):
    """The component itself, whose settings the executor is given."""
    channels = {
        "small": types.Channel(type=standard_artifacts.Model),
        "large": types.Channel(type=standard_artifacts.Model),
        "examples": types.Channel(type=standard_artifacts.Examples),
    }
    return components.CascadeCalibrator(
        **channels,
        **{
            "task_fn": f"{__name__}.task",
            "kind": "probabilities",
            "target": "confidence",
            **arguments,
        },
    )


def run(given, place, **arguments):
    outputs = {
        "model": [artifact(standard_artifacts.Model, f"{place}/model")],
        "certificate": [
            artifact(components.Certificate, f"{place}/certificate")
        ],
    }
    component = _component(**{"budget": 0.5, **arguments})
    CascadeCalibratorExecutor().Do(given, outputs, component.exec_properties)
    return outputs["model"][0], outputs["certificate"][0]


def _refused(given, place, error, message, **arguments):
    """Runs, and finds that nothing was written."""
    with pytest.raises(error, match=message) as raised:
        run(given, place, **arguments)
    for output in ("model", "certificate"):
        assert not list(pathlib.Path(place, output).iterdir())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("limit", [{"budget": 0.3}, {"tolerance": 0.1}])
def test_one_model_with_its_certificate(given, tmp_path, limit):
    model, granted = run(given, tmp_path, **{"budget": None, **limit})
    exported = pathlib.Path(model.uri, "Format-Serving")
    path = pathlib.Path(granted.uri, "certificate.json")
    certificate = Certificate.load(path)
    inside = exported / "assets.extra" / "certificate.json"
    assert Certificate.load(inside) == certificate
    text = granted.get_string_custom_property("certificate")
    assert Certificate.from_json(text) == certificate
    assert certificate.n == _ROWS["calibration"]
    assert certificate.tolerance == next(iter(limit.values()))
    # What is served is what was certified, by the rows of its own split.
    loaded = keras.saving.load_model(exported / "assets.extra/model.keras")
    loaded.check_certificate(certificate)
    rows = _rows_of(given, "calibration")
    served = tf.saved_model.load(str(exported)).signatures["serving_default"]
    answer = served(x=rows["x"])
    low, high = certificate.policy["deferral_share"]
    assert 0 < low < np.mean(answer["stage"] > 0) < high < 1
    errors = np.argmax(answer["outputs"], axis=1) != rows["label"].numpy()
    small = np.argmax(loaded.stages[0](rows["x"]), axis=1)
    assert errors.mean() < np.mean(small != rows["label"].numpy())
    if "tolerance" in limit:
        chosen = certificate.thresholds.index(certificate.threshold)
        assert certificate.risks[chosen] == pytest.approx(errors.mean())


def _rows_of(given, split):
    (path,) = pathlib.Path(given["examples"][0].uri, f"Split-{split}").iterdir()
    dataset = tf.data.TFRecordDataset(str(path), "GZIP")
    return tf.io.parse_example(list(dataset.as_numpy_iterator()), _SPEC)


def test_in_a_remote_store(given, remote):
    there = {
        name: [moved(made, f"{remote}/{name}")]
        for name, (made,) in given.items()
    }
    model, granted = run(there, remote)
    served = tf.saved_model.load(f"{model.uri}/Format-Serving")
    assert "stage" in served.signatures["serving_default"].structured_outputs
    (text,) = files(granted.uri).values()
    assert Certificate.from_json(text.decode()).n == _ROWS["calibration"]


def test_nothing_certified_is_no_model(given, tmp_path):
    _refused(
        given,
        tmp_path,
        components.GateClosedError,
        "no certificate: 500 examples are too few.* No threshold is certified",
        budget=None,
        tolerance=0.001,
    )


@pytest.mark.parametrize(
    "leak",
    [
        ("train", "validation"),
        ("train", "calibration"),
        ("validation", "calibration"),
    ],
)
def test_an_example_in_two_splits_is_refused(given, tmp_path, leak):
    examples = _examples(tmp_path / "leaking", leak=leak)
    purpose = {"train": "trained_on", "validation": "fit"}[leak[0]]
    _refused(
        {**given, "examples": [examples]},
        tmp_path,
        ValueError,
        rf"must have no row of `splits\['{purpose}'\]`.* 1 of \d+ rows",
    )


def test_an_example_may_be_in_a_split_that_no_stage_was_trained_on(
    given, tmp_path
):
    examples = _examples(tmp_path / "leaking", leak=("train", "calibration"))
    run({**given, "examples": [examples]}, tmp_path, trained_on=[])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fit_splits": ["empty"]}, r"\['fit'\]` must have rows"),
        ({"splits": ["empty"]}, r"\['calibration'\]` must have rows"),
        ({"trained_on": ["empty"]}, r"\['trained_on'\]` must have rows"),
        ({"splits": ["absent"]}, "absent"),
        ({"custom_config": {"labels": 0}}, "two values at least"),
        ({"custom_config": {"labels": 2}}, "`labels` must be from 0 to 1"),
        ({"kind": "tokens"}, "all .*Decodable"),
    ],
)
def test_what_cannot_be_calibrated(given, tmp_path, arguments, message):
    _refused(given, tmp_path, ValueError, message, **arguments)


def test_stages_that_differ(given, tmp_path):
    other = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(3, activation="softmax")]
    )
    stages = {**given, "large": [_kept(other, tmp_path / "other")]}
    _refused(stages, tmp_path, ValueError, "outputs of one shape")
    same = {**given, "large": given["small"]}
    _refused(same, tmp_path, ValueError, "The stages must differ")


def test_an_export_without_the_certificate_is_refused(given, tmp_path):
    with pytest.raises(RuntimeError, match="with the certificate"):
        run(given, tmp_path, custom_config={"forgets": True})
    assert not list((tmp_path / "certificate").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "One of `tolerance` and `budget`"),
        ({"budget": 0.3, "tolerance": 0.1}, "One of `tolerance` and `budget`"),
        ({"budget": 1.0}, "`budget` must be between 0 and 1"),
        ({"budget": 0.3, "shares": [0.0, 0.5]}, "`shares` must be between"),
        ({"budget": 0.3, "shares": []}, "`shares` must hold"),
        ({"budget": 0.3, "kind": "words"}, "`kind` must be one of"),
        ({"budget": 0.3, "target": "risk"}, "`target` must be one of"),
        ({"budget": 0.3, "splits": ["train"]}, "different splits.*train"),
        ({"budget": 0.3, "fit_splits": ["calibration"]}, "different splits"),
        ({"budget": 0.3, "fit_splits": []}, "`fit_splits` must name a split"),
        ({"budget": 0.3, "max_length": 0}, "`max_length`"),
    ],
)
def test_bad_arguments_are_refused_before_a_run(arguments, message):
    with pytest.raises(ValueError, match=message):
        _component(**arguments)


def test_settings_are_plain_and_in_one_order():
    properties = _component(budget=0.3, fit_splits=["eval"]).exec_properties
    settings = json.loads(properties["calibration"])
    assert settings["budget"] == 0.3 and settings["tolerance"] is None
    assert json.loads(properties["splits"]) == {
        "trained_on": ["train"],
        "fit": ["eval"],
        "calibration": ["calibration"],
    }
