import json

import pytest
import tensorflow as tf
from tfx.dsl.io import fileio

from keras_moe.components.pushing._upload_version import upload_version
from keras_moe.serving import newest_version
from keras_moe.serving import push_version
from keras_moe.serving.versions._origin import Origin
from tests.components.artifact_files_test import TREE
from tests.components.artifact_files_test import write_tree
from tests.components.remote_store import files

pytestmark = pytest.mark.tfx


@pytest.fixture(params=["local", "remote"])
def model(request, remote, tmp_path):
    uri = str(tmp_path / "m") if request.param == "local" else f"{remote}/m"
    write_tree(uri)
    return uri


@pytest.fixture
def base(remote):
    return f"{remote}/base"


def versions(base):
    return sorted(int(name.rstrip("/")) for name in fileio.listdir(base))


def test_a_version_is_the_model_and_where_it_came_from(model, base):
    version = upload_version(model, base, "first")
    pushed = files(version)
    origin = pushed.pop("assets.extra/pushed_from.json")
    assert json.loads(origin)["origin"] == "first"
    assert pushed == TREE
    assert version == f"{base}/{versions(base)[0]}"


def test_saved_model_comes_when_all_else_is_there(model, base, monkeypatch):
    plain, seen = fileio.copy, []

    def copy(source, destination, overwrite=False):
        if destination.endswith("saved_model.pb"):
            seen.append(set(files(destination.rpartition("/")[0])))
        plain(source, destination, overwrite=overwrite)

    monkeypatch.setattr(fileio, "copy", copy)
    upload_version(model, base, "first")
    others = set(TREE) - {"saved_model.pb"}
    assert seen == [others | {"assets.extra/pushed_from.json"}]


def test_the_same_model_is_pushed_once(model, base):
    first = upload_version(model, base, "first")
    assert upload_version(model, base, "first") == first
    second = upload_version(model, base, "second")
    third = upload_version(model, base, "first")
    assert [f"{base}/{n}" for n in versions(base)] == [first, second, third]


def test_another_model_of_the_same_origin_is_pushed(remote, base):
    write_tree(f"{remote}/m")
    first = upload_version(f"{remote}/m", base, "pipeline/Trainer/1")
    write_tree(f"{remote}/m", TREE | {"saved_model.pb": b"another graph"})
    second = upload_version(f"{remote}/m", base, "pipeline/Trainer/1")
    assert versions(base) == [int(v[len(base) + 1 :]) for v in (first, second)]
    assert files(second)["saved_model.pb"] == b"another graph"


def test_a_version_that_was_pushed_before_digests_were_noted(model, base):
    first = upload_version(model, base, "first")
    note = {"assets.extra/pushed_from.json": b'{"origin": "first"}\n'}
    write_tree(first, note)
    assert upload_version(model, base, "first") == first


def test_an_upload_that_may_be_under_way_stays(model, base):
    now = Origin.now("second", "0a").text().encode()
    under_way = {"assets.extra/pushed_from.json": now, "variables/v": b"ha"}
    write_tree(f"{base}/17", under_way)
    upload_version(model, base, "first")
    assert versions(base)[0] == 17
    assert files(f"{base}/17") == under_way


def test_a_version_can_be_pushed_on(base):
    first = upload_version_of_tree(base)
    second = upload_version(first, base, "second")
    assert upload_version(first, base, "second") == second


def upload_version_of_tree(base):
    write_tree(f"{base}-source")
    return upload_version(f"{base}-source", base, "first")


def test_versions_increase_even_if_the_clock_went_back(
    model, base, monkeypatch
):
    first = upload_version(model, base, "first")
    monkeypatch.setattr("time.time", lambda: 5.0)
    second = upload_version(model, base, "second")
    assert int(second[len(base) + 1 :]) == int(first[len(base) + 1 :]) + 1


def test_a_push_that_fails_leaves_what_was_served(model, base, monkeypatch):
    first = upload_version(model, base, "first")
    before = files(base)
    plain = fileio.copy

    def copy(source, destination, overwrite=False):
        if source.endswith("words.txt"):
            raise tf.errors.ResourceExhaustedError(None, None, "quota")
        plain(source, destination, overwrite=overwrite)

    monkeypatch.setattr(fileio, "copy", copy)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        upload_version(model, base, "second")
    assert files(base) == before
    assert [f"{base}/{n}" for n in versions(base)] == [first]


def test_what_a_killed_push_left_goes_and_no_one_elses(model, base):
    origin = {"assets.extra/pushed_from.json": b'{"origin": "first"}\n'}
    write_tree(f"{base}/99999999998", origin | {"variables/variables": b"ha"})
    write_tree(f"{base}/17", {"saved_model.pbtxt": b"another's"})
    version = upload_version(model, base, "first")
    assert [17, 99999999999] == versions(base)
    assert version == f"{base}/99999999999"


def test_no_saved_model(remote, base):
    write_tree(f"{remote}/m", {"variables/variables.index": b"index"})
    with pytest.raises(ValueError, match="which has no saved_model.pb"):
        upload_version(f"{remote}/m", base, "first")
    assert not fileio.exists(base)


def test_pushes_that_rename_refuse_remote_places(remote, tmp_path):
    write_tree(tmp_path / "m")
    for name, call in (
        ("source", lambda: push_version(remote, tmp_path / "base", "first")),
        ("base_directory", lambda: push_version(tmp_path / "m", remote, "1")),
        ("base_directory", lambda: newest_version(remote)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be.*ram://"):
            call()
    assert not (tmp_path / "base").exists()
