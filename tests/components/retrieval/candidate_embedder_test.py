"""The executor on a small model that embeds names by their letters."""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe.components._record_shards import record_key
from keras_moe.components.retrieval._candidate_embedder import (
    CandidateEmbedderExecutor,
)
from keras_moe.orchestration import text_example
from keras_moe.orchestration import write_records
from tests.components.artifacts_of import artifact
from tests.components.data.pool_case import MANY_WORKERS
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

NAMES = [f"{a}{b}" for a in "abcde" for b in "vwxyz"]
SETTINGS = {
    "identifier_key": "name",
    "signature_name": "embed_candidates",
    "splits": ["train", "eval"],
    "num_shards": 3,
    "batch_size": 4,
}


class Letters(tf.Module):
    """Embeds a text by its bytes; says what it does not like."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def embed(self, examples):
        spec = {"text": tf.io.FixedLenFeature([], tf.string)}
        text = tf.io.parse_example(examples, spec)["text"]
        codes = tf.io.decode_raw(text, tf.uint8, fixed_length=2)
        embedding = tf.cast(codes, tf.float32) * self.weight
        bad = tf.strings.regex_full_match(text, "nan")[:, tf.newaxis]
        short = tf.strings.length(text) < 2
        return {
            "embedding": tf.where(bad, np.nan, embedding),
            "status": tf.where(short, "too_short", "ok"),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def echo(self, texts):
        return {"embedding": tf.zeros([tf.size(texts), 2])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def other(self, examples):
        return {"vector": self.embed(examples)["embedding"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = artifact(standard_artifacts.Model, tmp_path_factory.mktemp("model"))
    module = Letters()
    signatures = {
        "embed_candidates": module.embed,
        "echo": module.echo,
        "other": module.other,
    }
    tf.saved_model.save(module, f"{made.uri}/Format-Serving", signatures)
    return made


def write(uri, records):
    """An Examples artifact; records are in turns in one split and the other."""
    splits = ["train", "eval"]
    made = artifact(standard_artifacts.Examples, uri, splits)
    for number, split in enumerate(splits):
        folder = pathlib.Path(uri, f"Split-{split}")
        write_records(folder / "data.gz", records[number::2])
    return made


def run(model, examples, place, context=None, **changed):
    made = artifact(components.CandidateEmbeddings, f"{place}/embeddings")
    CandidateEmbedderExecutor(context).Do(
        {"model": [model], "examples": [examples]},
        {"embeddings": [made]},
        {"settings": json.dumps(SETTINGS | changed)},
    )
    return made


def of_names(names):
    return [text_example(name=name, text=name) for name in names]


def content(made):
    folder = pathlib.Path(made.uri)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def embedded(model, tmp_path_factory):
    """All names; to read alone."""
    place = tmp_path_factory.mktemp("embedded")
    return run(model, write(place / "examples", of_names(NAMES)), place)


def test_a_row_for_each_candidate(embedded):
    made = embedded
    rows = components.read_embeddings(made.uri)
    assert sorted(rows.identifiers) == NAMES
    assert rows.failed == []
    assert rows.embeddings.dtype == np.float32
    for name, embedding in zip(rows.identifiers, rows.embeddings, strict=True):
        assert bytes(int(number) for number in embedding) == name.encode()
    assert made.get_int_custom_property("candidates") == len(NAMES)
    assert made.get_int_custom_property("failed") == 0
    assert made.get_int_custom_property("dim") == 2
    assert len(made.get_string_custom_property("encoder")) == 64
    assert len(list(pathlib.Path(made.uri).glob("rows-*-of-00003.gz"))) == 3


# Several workers take a second to start. They write the files of a
# `SubsetSelector` by default, by the same functions.
@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(None, id="1"),
        pytest.param(MANY_WORKERS, marks=pytest.mark.large, id="3"),
    ],
)
def test_files_do_not_depend_on_workers_or_the_order(
    workers, embedded, model, tmp_path
):
    backwards = write(tmp_path / "b", of_names(NAMES[::-1]))
    other = run(model, backwards, tmp_path / "other", workers)
    assert content(embedded) == content(other)


def test_a_row_that_fails_has_a_status_and_spoils_no_other(model, tmp_path):
    records = [
        *of_names(NAMES),
        text_example(name="no text"),
        text_example(name="not a number", text="nan"),
        text_example(name="a letter", text="a"),
        text_example(text="no name"),
        text_example(name=["two", "names"], text="of one"),
    ]
    made = run(model, write(tmp_path / "examples", records), tmp_path)
    rows = components.read_embeddings(made.uri)
    assert sorted(rows.identifiers) == NAMES
    statuses = dict(rows.failed)
    assert statuses["a letter"] == "too_short"
    assert statuses["not a number"] == "the embedding is not finite"
    assert re.match(
        "InvalidArgumentError: .*Feature: text .*could not be found",
        statuses["no text"],
    )
    assert rows.failed.count(("", "no identifier")) == 2
    assert made.get_int_custom_property("failed") == 5


def test_identifiers_that_repeat_are_refused(model, tmp_path):
    examples = write(tmp_path / "examples", of_names([*NAMES, "av", "cz"]))
    with pytest.raises(ValueError, match="Received: 'av', 'cz' more than once"):
        run(model, examples, tmp_path)


def test_nothing_to_embed_is_refused(model, tmp_path):
    bad = [text_example(name=name, text="a") for name in NAMES]
    with pytest.raises(ValueError, match="25 that cannot: too_short"):
        run(model, write(tmp_path / "examples", bad), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "must be a signature of the model: .*embed_candidates"),
        ("other", "must have an output `embedding`. Received: vector"),
        ("echo", "must be a signature that parses serialized examples"),
    ],
)
def test_another_signature_is_refused(model, tmp_path, name, message):
    examples = write(tmp_path / "examples", of_names(NAMES))
    with pytest.raises(ValueError, match=message):
        run(model, examples, tmp_path, signature_name=name)
    assert not list((tmp_path / "embeddings").iterdir())


def test_a_shard_that_was_removed_is_found_out(model, tmp_path):
    made = run(model, write(tmp_path / "examples", of_names(NAMES)), tmp_path)
    next(pathlib.Path(made.uri).glob("rows-*")).unlink()
    with pytest.raises(ValueError, match="must be the 25 .*was removed"):
        components.read_embeddings(made.uri)


def test_in_a_remote_store(embedded, model, remote, tmp_path, monkeypatch):
    # Beam leaves files of its own, which say nothing of ours.
    temporary = tmp_path / "beam"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    examples = write(tmp_path / "examples", of_names(NAMES))
    there = run(
        moved(model, f"{remote}/model"),
        moved(examples, f"{remote}/examples"),
        remote,
    )
    ours, theirs = (
        components.read_embeddings(m.uri) for m in (embedded, there)
    )
    assert ours.identifiers == theirs.identifiers
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    assert not [*temporary.rglob("rows-*"), *temporary.rglob("summary.json")]


def test_the_component_declares_what_it_reads_and_writes():
    from tfx import types

    embedder = components.CandidateEmbedder(
        model=types.Channel(type=standard_artifacts.Model),
        examples=types.Channel(type=standard_artifacts.Examples),
        identifier_key="name",
    )
    assert embedder.outputs["embeddings"].type is components.CandidateEmbeddings
    with pytest.raises(ValueError, match="positive integer"):
        components.CandidateEmbedder(
            model=types.Channel(type=standard_artifacts.Model),
            examples=types.Channel(type=standard_artifacts.Examples),
            identifier_key="name",
            num_shards=0,
        )


def test_a_record_that_is_no_example_has_no_identifier():
    assert record_key(b"\xff\xff\xff", "name") == b""
