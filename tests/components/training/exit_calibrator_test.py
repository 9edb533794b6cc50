"""The executor on a tiny student, with a task of this module."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from keras_moe import calibration
from keras_moe import components
from keras_moe import serving
from keras_moe.components.training._exit_calibrator import (
    ExitCalibratorExecutor,
)
from keras_moe.generation import EarlyExitPolicy
from keras_moe.models import SwitchTransformer
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

LENGTH = 6
SEEN = []


def task(args):
    """What a project says, with losses that the test asks for."""
    SEEN.append(args)
    rows = args.custom_config["rows"]
    rng = np.random.default_rng(0)

    def loss(early, full):
        hurt = args.custom_config["loss"]
        return np.where((early != full).any(axis=1), 1.0, hurt)

    def export(directory, policy, certificate):
        forgets = args.custom_config.get("forgets")
        if forgets == "model":
            tf.saved_model.save(tf.Module(), directory)
            return
        # Signatures are graphs, however the calibration runs.
        tf.config.run_functions_eagerly(False)
        serving.export(
            args.models[0],
            directory,
            tokenize=lambda words: {
                "encoder_token_ids": tf.strings.unicode_decode(
                    words, "UTF-8"
                ).to_tensor()
                % 32
            },
            detokenize=lambda ids: tf.strings.reduce_join(
                tf.strings.as_string(ids), axis=1
            ),
            max_length=args.max_length,
            early_exit=policy,
            certificate=None if forgets else certificate,
        )

    return components.CalibrationTask(
        rng.integers(2, 32, (rows, 5)), loss, export
    )


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    made = artifact(standard_artifacts.Model, tmp_path_factory.mktemp("s"))
    extra = pathlib.Path(made.uri, "Format-Serving", "assets.extra")
    extra.mkdir(parents=True)
    model = SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, num_encoder_layers=1
    )
    model.save(extra / "model.keras")
    return made


def run(student, place, **custom):
    outputs = {
        "model": [artifact(standard_artifacts.Model, f"{place}/model")],
        "certificate": [
            artifact(components.Certificate, f"{place}/certificate")
        ],
    }
    examples = artifact(
        standard_artifacts.Examples, f"{place}/ex", ["train", "calibration"]
    )
    settings = {
        "policy": EarlyExitPolicy("softmax").to_dict(),
        "thresholds": [1.1, 1.0123456789],  # neither lets a token leave
        "tolerance": 0.1,
        "confidence_level": 0.95,
        "max_length": LENGTH,
    }
    ExitCalibratorExecutor().Do(
        {"student": [student], "examples": [examples]},
        outputs,
        {
            "task_fn": f"{__name__}.task",
            "splits": json.dumps({"calibration": ["calibration"]}),
            "calibration": json.dumps(settings),
            "custom_config": json.dumps({"rows": 60, "loss": 0.0} | custom),
        },
    )
    return outputs["model"][0], outputs["certificate"][0]


def test_model_and_certificate_agree(student, tmp_path):
    model, granted = run(student, tmp_path)
    exported = pathlib.Path(model.uri, "Format-Serving")
    served = tf.saved_model.load(str(exported))
    assert "with_threshold" in served.signatures
    path = pathlib.Path(granted.uri, "certificate.json")
    certificate = calibration.Certificate.load(path)
    inside = exported / "assets.extra" / "certificate.json"
    assert calibration.Certificate.load(inside) == certificate
    # Not rounded, as ML Metadata would round a number.
    assert certificate.threshold == 1.0123456789
    text = granted.get_string_custom_property("certificate")
    assert calibration.Certificate.from_json(text) == certificate
    # The task was given the calibration words alone.
    (pattern,) = SEEN[-1].example_files
    assert "Split-calibration" in pattern


@pytest.mark.usefixtures("functions_run_eagerly")
def test_in_a_remote_store(student, remote):
    model, granted = run(moved(student, f"{remote}/student"), remote)
    exported = f"{model.uri}/Format-Serving"
    served = tf.saved_model.load(exported)
    assert "with_threshold" in served.signatures
    (text,) = files(granted.uri).values()
    certificate = calibration.Certificate.from_json(text.decode())
    assert certificate.threshold == 1.0123456789
    assert files(f"{exported}/assets.extra") == {"certificate.json": text}
    (pattern,) = SEEN[-1].example_files
    assert pattern == f"{remote}/ex/Split-calibration/*"


@pytest.mark.usefixtures("functions_run_eagerly")
def test_nothing_is_uploaded_that_is_not_certified(student, remote):
    student = moved(student, f"{remote}/student")
    with pytest.raises(RuntimeError, match="with the certificate"):
        run(student, remote, forgets="model")
    assert not files(f"{remote}/model")
    assert not files(f"{remote}/certificate")


@pytest.mark.usefixtures("functions_run_eagerly")
def test_nothing_certified_is_no_model_and_one_line(student, tmp_path):
    with pytest.raises(components.GateClosedError) as raised:
        run(student, tmp_path, loss=0.5)
    reason = str(raised.value)
    assert reason.startswith("no certificate: No threshold is certified")
    assert "\n" not in reason
    assert not list((tmp_path / "model").iterdir())
    assert not list((tmp_path / "certificate").iterdir())


@pytest.mark.large
@pytest.mark.parametrize("forgets", ["model", "certificate"])
def test_an_export_without_the_certificate_is_refused(
    student, tmp_path, forgets
):
    with pytest.raises(RuntimeError, match="with the certificate"):
        run(student, tmp_path, forgets=forgets)
    assert not list((tmp_path / "certificate").iterdir())


def test_a_student_without_its_keras_model(tmp_path):
    empty = artifact(standard_artifacts.Model, tmp_path / "empty")
    (tmp_path / "empty" / "Format-Serving").mkdir()
    with pytest.raises(FileNotFoundError, match="model.keras"):
        run(empty, tmp_path)
