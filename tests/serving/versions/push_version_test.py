import json
import os
import resource
import shutil
import threading

import pytest

from keras_moe.serving.versions._origin import read_origin
from keras_moe.serving.versions._push_version import newest_version
from keras_moe.serving.versions._push_version import push_version

pytestmark = pytest.mark.tfx


@pytest.fixture
def model(tmp_path):
    source = tmp_path / "model"
    (source / "variables").mkdir(parents=True)
    (source / "saved_model.pb").write_bytes(b"graph")
    (source / "variables" / "variables.data").write_bytes(b"x" * 300_000)
    return source


def files(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_version_is_the_model_and_where_it_came_from(model, tmp_path):
    version = push_version(model, tmp_path / "base", "first")
    pushed = files(version)
    origin = pushed.pop("assets.extra/pushed_from.json")
    assert json.loads(origin)["origin"] == "first"
    assert pushed == files(model)
    assert newest_version(tmp_path / "base") == version


def test_the_same_model_is_pushed_once(model, tmp_path):
    first = push_version(model, tmp_path / "base", "first")
    assert push_version(model, tmp_path / "base", "first") == first
    second = push_version(model, tmp_path / "base", "second")
    # Back to the first: what is served is another, so it is a push.
    third = push_version(model, tmp_path / "base", "first")
    assert int(first.name) < int(second.name) < int(third.name)


def test_another_model_of_the_same_origin_is_pushed(model, tmp_path):
    # The URI of an artifact comes again once the metadata are begun anew.
    first = push_version(model, tmp_path / "base", "pipeline/Trainer/1")
    (model / "variables" / "variables.data").write_bytes(b"y" * 300_000)
    second = push_version(model, tmp_path / "base", "pipeline/Trainer/1")
    assert int(second.name) > int(first.name)
    assert (second / "variables" / "variables.data").read_bytes()[:1] == b"y"


@pytest.mark.parametrize("changed", [False, True])
def test_a_version_that_was_pushed_before_digests_were_noted(
    model, tmp_path, changed
):
    first = push_version(model, tmp_path / "base", "first")
    note = first / "assets.extra" / "pushed_from.json"
    note.write_text('{"origin": "first"}\n')
    if changed:
        (model / "saved_model.pb").write_bytes(b"another graph")
    assert (push_version(model, tmp_path / "base", "first") == first) != changed


def test_a_push_waits_for_one_that_is_under_way(model, tmp_path, monkeypatch):
    base = tmp_path / "base"
    copying, may_go_on = threading.Event(), threading.Event()
    copy = shutil.copytree

    def slowly(*args, **kwargs):
        copy(*args, **kwargs)
        copying.set()
        assert may_go_on.wait(60)

    monkeypatch.setattr("shutil.copytree", slowly)
    pushed = []
    pushes = [
        threading.Thread(
            target=lambda name=name: pushed.append(
                push_version(model, base, name)
            )
        )
        for name in ("first", "second")
    ]
    pushes[0].start()
    assert copying.wait(60)
    pushes[1].start()
    pushes[1].join(0.3)  # time to do harm
    may_go_on.set()
    for push in pushes:
        push.join()
    assert sorted(os.listdir(base)) == sorted(path.name for path in pushed)
    assert [read_origin(path).model for path in pushed] == ["first", "second"]


def test_versions_increase_even_if_the_clock_went_back(
    model, tmp_path, monkeypatch
):
    first = push_version(model, tmp_path / "base", "first")
    monkeypatch.setattr("time.time", lambda: 5.0)
    second = push_version(model, tmp_path / "base", "second")
    assert int(second.name) == int(first.name) + 1


def test_a_full_disk_leaves_what_was_served(model, tmp_path):
    base = tmp_path / "base"
    first = push_version(model, base, "first")
    before = files(first)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to write on, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError):
            push_version(model, base, "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(base) == [first.name]
    assert files(first) == before


def test_what_a_killed_push_left_is_no_version_and_goes(model, tmp_path):
    base = tmp_path / "base"
    left = base / ".17.partial"
    left.mkdir(parents=True)
    (left / "saved_model.pb").write_bytes(b"half")
    assert newest_version(base) is None
    version = push_version(model, base, "first")
    assert os.listdir(base) == [version.name]


def test_no_saved_model(tmp_path):
    with pytest.raises(ValueError, match="which has no saved_model.pb"):
        push_version(tmp_path, tmp_path / "base", "first")
    assert not (tmp_path / "base").exists()
