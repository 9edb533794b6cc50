import pathlib
import tempfile

import pytest
import tensorflow as tf
from tfx.dsl.io import fileio

from keras_moe.components._artifact_files import copy_tree
from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import written_locally
from tests.components.remote_store import files

pytestmark = pytest.mark.tfx

TREE = {
    "saved_model.pb": b"graph\x00\xff",
    "variables/variables.index": b"index",
    "assets/deep/words.txt": b"a\nb\n",
}


def write_tree(uri, tree=TREE):
    for name, content in tree.items():
        path = f"{uri}/{name}"
        fileio.makedirs(path.rpartition("/")[0])
        with fileio.open(path, "wb") as file:
            file.write(content)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_remote_directory_is_read_from_a_copy(remote, slash):
    write_tree(f"{remote}/model")
    with read_locally(f"{remote}/model{slash}") as directory:
        assert files(directory) == TREE
        assert directory.name == "model"
        # What is done to the copy is done to nothing else.
        (directory / "saved_model.pb").unlink()
    assert not directory.exists()
    assert files(f"{remote}/model") == TREE


def test_a_remote_file_is_read_from_a_copy_of_its_name(remote):
    write_tree(remote, {"a/model.keras": b"zip", "a/other": b"large"})
    with read_locally(f"{remote}/a/model.keras") as path:
        assert path.read_bytes() == b"zip"
        assert path.name == "model.keras"
        assert list(path.parent.iterdir()) == [path]
    assert not path.exists()


def test_a_remote_directory_is_written_when_all_of_it_is_there(remote):
    uri = f"{remote}/new/model"
    with written_locally(uri) as directory:
        assert directory.is_dir() and not list(directory.iterdir())
        write_tree(directory)
        (directory / "empty").mkdir()
        assert not fileio.exists(uri)
    assert not directory.exists()
    assert files(uri) == TREE
    assert fileio.isdir(f"{uri}/empty")


def test_other_files_stay_as_in_a_local_directory(remote, tmp_path):
    """The logs of a training, where its history is added."""
    for uri in (f"{remote}/run", str(tmp_path / "run")):
        write_tree(uri, {"logs/events": b"many", "history.json": b"old, long"})
        with written_locally(uri) as directory:
            (directory / "history.json").write_bytes(b"new")
        assert files(uri) == {"logs/events": b"many", "history.json": b"new"}


def test_nothing_is_uploaded_after_an_error(remote):
    uri = f"{remote}/model"
    write_tree(uri, {"saved_model.pb": b"before"})
    with pytest.raises(RuntimeError, match="no room"):
        with written_locally(uri) as directory:
            write_tree(directory)
            raise RuntimeError("no room")
    assert not directory.exists()
    assert files(uri) == {"saved_model.pb": b"before"}


def test_an_upload_that_fails_is_an_error(remote, monkeypatch):
    def full(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "quota")

    monkeypatch.setattr(fileio, "copy", full)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        with written_locally(f"{remote}/model") as directory:
            write_tree(directory)
    assert not directory.exists()


@pytest.fixture
def forbid_copies(monkeypatch):
    def called(*args, **kwargs):
        raise AssertionError("nothing is to be copied")

    def forbid():
        monkeypatch.setattr(fileio, "copy", called)
        monkeypatch.setattr(fileio, "makedirs", called)
        monkeypatch.setattr(tempfile, "TemporaryDirectory", called)

    return forbid


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_what_is_local_is_read_where_it_is(kind, tmp_path, forbid_copies):
    write_tree(tmp_path / "model")
    forbid_copies()
    for path in (
        tmp_path / "model",
        tmp_path / "model" / "saved_model.pb",
        tmp_path / "missing",
    ):
        with read_locally(kind(path)) as given:
            assert given == path
    assert not (tmp_path / "missing").exists()
    assert files(tmp_path / "model") == TREE


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_what_is_local_is_written_where_it_goes(kind, tmp_path, forbid_copies):
    write_tree(tmp_path / "model")
    forbid_copies()
    with written_locally(kind(tmp_path / "model")) as given:
        assert given == tmp_path / "model"
    assert files(tmp_path / "model") == TREE
    # A cluster makes no directories.
    with written_locally(kind(tmp_path / "missing" / "artifact")) as given:
        assert given == tmp_path / "missing" / "artifact"
        assert given.is_dir()


def test_nothing_there(remote):
    with pytest.raises(FileNotFoundError, match="uri='ram://.*/store/model'"):
        with read_locally(f"{remote}/model"):
            pass


def test_from_one_store_to_another_but_for_some(remote, tmp_path):
    write_tree(f"{remote}/a")
    left = ["saved_model.pb", "assets/deep/words.txt"]
    rest = {"variables/variables.index": b"index"}
    copy_tree(f"{remote}/a", f"{remote}/b/", leave_out=left)
    copy_tree(f"{remote}/a/", tmp_path / "c", leave_out=left)
    assert files(f"{remote}/b") == files(tmp_path / "c") == rest
