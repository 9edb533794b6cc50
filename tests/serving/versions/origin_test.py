"""From which model a version was pushed, noted in its folder."""

import pytest

from keras_moe.serving.versions._origin import Origin
from keras_moe.serving.versions._origin import local_digest
from keras_moe.serving.versions._origin import read_origin
from keras_moe.serving.versions._origin import write_origin


def test_an_origin_is_read_as_it_was_written(tmp_path):
    assert read_origin(tmp_path) is None
    origin = Origin.now("first", "0a")
    write_origin(tmp_path, origin)
    assert read_origin(tmp_path) == origin


def test_an_earlier_version_noted_the_model_alone():
    assert Origin.parse('{"origin": "first"}') == Origin("first", None, 0)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "3", '"text"', '{"origin": "first", "begun": "then"}'],
)
def test_what_another_tool_wrote(text):
    assert Origin.parse(text) is None


def test_a_digest_is_one_of_names_and_contents_but_not_of_the_note(tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"22")
    first = local_digest(tmp_path)
    write_origin(tmp_path, Origin.now("first", first))
    assert local_digest(tmp_path) == first
    (tmp_path / "one").write_bytes(b"12")
    (tmp_path / "two").write_bytes(b"2")
    assert local_digest(tmp_path) != first
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").rename(tmp_path / "three")
    (tmp_path / "three").write_bytes(b"22")
    assert local_digest(tmp_path) != first
