"""Nothing outside the model base is read, however it is asked for."""

import os
import pathlib
import pickle
import re
import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_moe
from keras_moe import serving
from tests.serving import toy_model


class WithVocabulary(tf.Module):
    def __init__(self, path):
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            -1,
        )

    @tf.function(input_signature=[toy_model.WORDS])
    def serving_default(self, word):
        return {"id": self.table.lookup(word)}


@pytest.fixture
def base(models, tmp_path):
    base = tmp_path / "toy"
    toy_model.push(models[1], base, 1)
    return base


def refusal(base, eventually):
    """Serves the folder, and gives what became of version 2."""
    with serving.Server("toy", base, poll_seconds=0.05) as server:
        server.wait_until_available()
        eventually(lambda: 2 in server.versions())
        eventually(lambda: server.versions()[2].error_message)
        assert server.servable.version == 1
        return server.versions()[2]


@pytest.mark.parametrize("target", ["absolute", "relative", "loop"])
def test_version_that_is_a_link(base, models, tmp_path, eventually, target):
    outside = shutil.copytree(models[2], tmp_path / "outside")
    link = {"absolute": outside, "relative": "../outside", "loop": "loop"}
    os.symlink(link[target], base / "2")
    if target == "loop":
        # No folder at the end: no version, and no harm.
        os.symlink("2", base / "loop")
        with serving.Server("toy", base, poll_seconds=0.05) as server:
            server.wait_until_available()
            assert list(server.versions()) == [1]
        return

    state = refusal(base, eventually)

    assert state.error_code == "PERMISSION_DENIED"
    assert "leads out of the model base" in state.error_message


def test_link_inside_a_version(base, models, tmp_path, eventually):
    outside = shutil.copytree(models[2], tmp_path / "outside")
    new = shutil.copytree(models[2], base / "2.new")
    shutil.rmtree(new / "variables")
    (new / "variables").symlink_to(outside / "variables")
    new.rename(base / "2")

    assert refusal(base, eventually).error_code == "PERMISSION_DENIED"


def test_links_that_stay_inside_are_followed(base, models, eventually):
    shutil.copytree(models[2], base / "current")
    (base / "2").symlink_to("current")
    with serving.Server("toy", base, poll_seconds=0.05) as server:
        eventually(lambda: server.servable and server.servable.version == 2)


def test_base_that_is_a_link(base, tmp_path):
    (tmp_path / "link").symlink_to(base)
    with serving.Server("toy", tmp_path / "link", poll_seconds=0.05) as server:
        server.wait_until_available()


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname"])
def test_asset_outside(base, tmp_path, eventually, name):
    vocabulary = tmp_path / "vocabulary"
    vocabulary.write_text("a\nb\n")
    (base / "secret").write_text("a\nb\n")
    new = base / "2.new"
    model = WithVocabulary(str(vocabulary))
    tf.saved_model.save(model, str(new), model.serving_default)
    path = new / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].asset_file_def[0].filename = name
    path.write_bytes(saved.SerializeToString())
    new.rename(base / "2")

    state = refusal(base, eventually)

    assert state.error_code == "PERMISSION_DENIED"
    assert name in state.error_message


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../toy:predict",
        "/v1/models/..%2Ftoy:predict",
        "/v1/models/toy/versions/..%2F1:predict",
        "/v1/models/toy/labels/..%2F1:predict",
        "/../../etc/passwd",
    ],
)
def test_paths_in_requests(rest, path):
    assert rest(path, {"instances": ["a"]})[0] in (400, 404)
    assert rest(path)[0] in (400, 404)


def test_no_pickle_is_read_or_written():
    """Neither by the code of the room, nor by NumPy for it."""
    room = pathlib.Path(keras_moe.__file__).parent / "serving"
    unsafe = re.compile(
        r"\bpickle\b|\bcloudpickle\b|\bdill\b|\bmarshal\b|allow_pickle|"
        r"\bshelve\b|\byaml\.load\b|\beval\(|\bexec\("
    )
    for file in room.glob("*.py"):
        assert not unsafe.search(file.read_text()), file


def test_pickle_in_a_request_is_a_string_of_bytes(client):
    class Trap:
        def __reduce__(self):
            return os.abort, ()

    answer = client.predict({"word": [pickle.dumps(Trap())]})
    assert answer["score"].shape == (1,)
