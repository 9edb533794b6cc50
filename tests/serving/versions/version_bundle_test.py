"""What lies in a version's folder, read and written."""

import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_moe.serving.versions import _version_bundle as version_bundle


def test_saved_model_in_binary_and_in_text(models, tmp_path):
    expected = version_bundle.read_saved_model(models[1])
    assert expected.meta_graphs[0].signature_def["serving_default"].inputs
    (tmp_path / "saved_model.pbtxt").write_text(
        text_format.MessageToString(expected)
    )
    assert version_bundle.read_saved_model(tmp_path) == expected


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt", None])
def test_damaged_or_missing_saved_model(tmp_path, name):
    if name:
        (tmp_path / name).write_bytes(b"\x0a\xff\xff")
    with pytest.raises(tf.errors.DataLossError, match="Could not read"):
        version_bundle.read_saved_model(tmp_path)


def test_has_variables(models, tmp_path):
    assert version_bundle.has_variables(models[1])
    assert not version_bundle.has_variables(tmp_path)
