"""What a directory of a teacher's logits says that it holds."""

import json

import pytest

from keras_moe.distillation.teachers._manifest import read_manifest

CONTENT = {
    "k": 1,
    "vocabulary_size": 3,
    "num_examples": 1,
    "num_tokens": 1,
    "num_bytes": 9,
    "teacher": None,
    "shards": ["a", "b"],
    "fields": {
        "labels": ["int64", [-1]],
        "teacher_token_ids": ["uint16", [-1, 1]],
        "teacher_log_probabilities": ["float16", [-1, 1]],
    },
}


def read(tmp_path, **changes):
    path = tmp_path / "teacher_logits.json"
    path.write_text(json.dumps(CONTENT | changes))
    return read_manifest(path)


def test_what_was_written_is_read(tmp_path):
    assert read(tmp_path).shards == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"shards": ["../a", "b"]}, "`shards` must be names"),
        ({"shards": ["/a", "b"]}, "`shards` must be names"),
        ({"shards": ["..", "b"]}, "`shards` must be names"),
        ({"shards": ["a", "a"]}, "each once"),
        ({"fields": {"labels": ["int64", [-1]]}}, "must hold"),
        (
            {"fields": CONTENT["fields"] | {"labels": ["object", [-1]]}},
            "must hold numbers for 'labels'",
        ),
        (
            {"fields": CONTENT["fields"] | {"labels": ["nonsense", [-1]]}},
            "must be what `write_teacher_logits` wrote",
        ),
        ({"other": 1}, "must be what `write_teacher_logits` wrote"),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, changes, rule):
    with pytest.raises(ValueError, match=rule):
        read(tmp_path, **changes)


def test_a_manifest_that_is_no_json(tmp_path):
    path = tmp_path / "teacher_logits.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="must be what"):
        read_manifest(path)
