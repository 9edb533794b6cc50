"""One rule says what a version is, for servers and for pushes."""

import pytest

from keras_moe.serving.versions._push_version import newest_version
from keras_moe.serving.versions._push_version import push_version
from keras_moe.serving.versions._version_folders import MAX_VERSION
from keras_moe.serving.versions._version_folders import find_versions
from keras_moe.serving.versions._version_folders import next_version
from keras_moe.serving.versions._version_folders import version_number


def write(folder, name="saved_model.pb"):
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"graph")
    return folder


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("0", 0),
        ("7", 7),
        ("007", 7),
        ("0" * 5000 + "7", 7),
        (str(MAX_VERSION), 2**63 - 1),
        (str(MAX_VERSION + 1), None),
        ("9" * 19, None),
        ("9" * 5000, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("8x", None),
        ("٣", None),
        ("²", None),
    ],
)
def test_version_number(name, number):
    assert version_number(name) == number


@pytest.mark.parametrize(
    ("name", "file", "is_version"),
    [
        ("7", "saved_model.pb", True),
        ("7", "saved_model.pbtxt", True),
        ("7", "variables", False),
        (str(MAX_VERSION), "saved_model.pb", True),
        ("9" * 19, "saved_model.pb", False),
        ("٣", "saved_model.pb", False),
        (".7.partial", "saved_model.pb", False),
    ],
)
def test_servers_and_pushes_agree(tmp_path, name, file, is_version):
    folder = write(tmp_path / name, file)
    assert list(find_versions(tmp_path).values()) == [folder] * is_version
    assert newest_version(tmp_path) == (folder if is_version else None)


def test_newest_first_by_number(tmp_path):
    for name in ("9", "10", "008"):
        write(tmp_path / name)
    assert list(find_versions(tmp_path)) == [10, 9, 8]
    assert newest_version(tmp_path) == tmp_path / "10"


def test_no_folder(tmp_path):
    assert find_versions(tmp_path / "missing") == {}
    assert newest_version(tmp_path / "missing") is None


def test_next_version(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 100.9)
    assert next_version([]) == 100
    assert next_version([7, 99]) == 100
    assert next_version([100]) == 101
    assert next_version([500, 7]) == 501


def test_no_version_can_follow_the_greatest(tmp_path):
    write(tmp_path / "base" / str(MAX_VERSION))
    source = write(tmp_path / "model")
    with pytest.raises(ValueError, match="newest version must be less than"):
        push_version(source, tmp_path / "base", "first")
    assert [path.name for path in (tmp_path / "base").iterdir()] == [
        str(MAX_VERSION)
    ]
