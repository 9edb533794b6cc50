"""The certificate of a version, and whether its graph knows of it."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from keras_moe.calibration import Certificate
from keras_moe.calibration import calibrate
from keras_moe.serving.exporting._export_endpoints import write_endpoints
from keras_moe.serving.versions._certification import read_certification

CERTIFICATE = calibrate(
    np.zeros([200, 2]), [0.9, 0.5], tolerance=0.05, fingerprint="abc"
)
ANOTHER = calibrate(np.zeros([300, 1]), [0.01], tolerance=0.05)


def custom(losses, tolerance):
    """A p-value of a project's own."""
    return np.zeros(losses.shape[1])


def write(directory, certificate, weight=2.0):
    number = tf.TensorSpec([None], tf.float32, name="x")
    variable = tf.Variable(weight)
    endpoints = {"serving_default": (lambda x: {"y": x * variable}, [number])}
    write_endpoints(directory, endpoints, [variable], certificate=certificate)
    return directory


@pytest.fixture
def version(tmp_path):
    return write(tmp_path / "1", CERTIFICATE)


def file(version):
    return version / "assets.extra" / "certificate.json"


def test_graph_and_certificate_name_each_other(version):
    found = read_certification(version)
    assert found.certificate == CERTIFICATE
    assert found.is_bound
    assert found.summary()["threshold"] == 0.5
    assert found.summary()["fingerprint"] == "abc"
    # The loader of SavedModels passes the note by.
    assert tf.saved_model.load(version).signatures["serving_default"]


def test_a_version_without_one(tmp_path):
    assert read_certification(write(tmp_path / "1", None)) is None


def test_another_models_certificate_is_refused(version):
    ANOTHER.save(file(version))
    with pytest.raises(tf.errors.FailedPreconditionError, match="names"):
        read_certification(version)


def test_a_certificate_that_was_taken_away_is_missed(version):
    file(version).unlink()
    with pytest.raises(tf.errors.FailedPreconditionError, match="There is no"):
        read_certification(version)


def test_weights_of_another_training_are_refused(version, tmp_path):
    other = write(tmp_path / "other", CERTIFICATE, weight=3.0)
    shutil.copytree(
        other / "variables", version / "variables", dirs_exist_ok=True
    )
    with pytest.raises(tf.errors.FailedPreconditionError, match="weights"):
        read_certification(version)


def test_tensorflows_fingerprint_is_that_of_the_bound_graph(version):
    before = tf.saved_model.experimental.read_fingerprint(str(version))
    write_fingerprint(str(version))
    after = tf.saved_model.experimental.read_fingerprint(str(version))
    assert before.saved_model_checksum == after.saved_model_checksum


@pytest.mark.parametrize("text", ["not json", "{}", b"\xff".decode("latin1")])
def test_a_file_that_is_no_certificate(version, text):
    file(version).write_text(text)
    with pytest.raises(tf.errors.DataLossError, match="is not a certificate"):
        read_certification(version)


def test_an_earlier_graph_names_none(tmp_path):
    version = write(tmp_path / "1", None)
    file(version).parent.mkdir()
    CERTIFICATE.save(file(version))
    found = read_certification(version)
    assert found.certificate == CERTIFICATE
    assert not found.is_bound


def test_a_custom_p_value_needs_a_graph_that_vouches_for_it(tmp_path):
    granted = calibrate(np.zeros([9, 1]), [0.5], 0.05, p_value=custom)
    version = write(tmp_path / "1", granted)
    assert read_certification(version).certificate == granted
    other = write(tmp_path / "2", None)
    shutil.copytree(version / "assets.extra", other / "assets.extra")
    with pytest.raises(tf.errors.DataLossError, match="`p_value` must be"):
        read_certification(other)


def test_the_digest_is_one_of_all_fields():
    document = json.loads(CERTIFICATE.to_json())
    again = Certificate(**dict(reversed(document.items())))
    assert again.digest == CERTIFICATE.digest
    changed = Certificate(**document | {"fingerprint": "abd"})
    assert changed.digest != CERTIFICATE.digest
