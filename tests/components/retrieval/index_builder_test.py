"""The executor on a small encoder, with a task of this module."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe import retrieval
from keras_moe import serving
from keras_moe.components.retrieval._embedding_rows import EmbeddingRow
from keras_moe.components.retrieval._embedding_rows import EmbeddingSummary
from keras_moe.components.retrieval._embedding_rows import write_rows
from keras_moe.components.retrieval._encoder import encoder_digest
from keras_moe.components.retrieval._index_builder import IndexBuilderExecutor
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

DIM, CANDIDATES, QUERIES = 8, 700, 400
SETTINGS = {
    "target_recall": 0.8,
    "k": 5,
    "max_k": 20,
    "confidence_level": 0.9,
    "storage": "float32",
    "max_failed": 0,
    "splits": ["calibration"],
    "seed": 0,
}
SEEN = []


def numbers(count, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=[count, DIM]).astype("float32")


def task(args):
    """What a project says, with the faults that the test asks for."""
    SEEN.append(args)
    fault = args.custom_config.get("fault")
    queries = numbers(QUERIES, seed=2)
    if fault == "candidates":
        queries = numbers(CANDIDATES, seed=1)[:QUERIES]
    elif fault == "size":
        queries = queries[:, :3]
    elif fault == "nan":
        queries[3] = np.nan

    def encode(texts):
        text = tf.strings.split(texts, " ").to_tensor(shape=[None, DIM])
        given = tf.strings.to_number(text)
        return {"embedding": args.encoder(given)}

    def export(directory, index):
        if fault != "export":
            serving.export_search(directory, encode, index, default_k=3)

    return components.SearchTask(queries, export)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    made = artifact(standard_artifacts.Model, tmp_path_factory.mktemp("e"))
    folder = pathlib.Path(made.uri, "Format-Serving")
    layer = keras.layers.Identity()
    model = keras.Sequential([keras.Input([DIM]), layer])
    model.export(folder, verbose=False)
    (folder / "assets.extra").mkdir()
    model.save(folder / "assets.extra" / "model.keras")
    return made


def embeddings(encoder, place, failed=(), count=CANDIDATES):
    made = artifact(components.CandidateEmbeddings, f"{place}/embeddings")
    rows = [
        EmbeddingRow(f"c{number}".encode(), "ok", row)
        for number, row in enumerate(numbers(count, seed=1))
    ]
    rows += [EmbeddingRow(name, "too_short", np.zeros(0)) for name in failed]
    write_rows(made.uri, 0, 1, rows)
    summary = EmbeddingSummary(count, len(failed), (DIM,))
    with components.written_locally(made.uri) as folder:
        summary.save(folder)
    digest = encoder_digest(f"{encoder.uri}/Format-Serving")
    made.set_string_custom_property("encoder", digest)
    return made


def run(encoder, embedded, place, fault=None, **changed):
    outputs = {
        "model": [artifact(standard_artifacts.Model, f"{place}/model")],
        "report": [artifact(components.IndexReport, f"{place}/report")],
    }
    examples = artifact(
        standard_artifacts.Examples, f"{place}/ex", ["train", "calibration"]
    )
    inputs = {"encoder": encoder, "embeddings": embedded, "examples": examples}
    IndexBuilderExecutor().Do(
        {key: [value] for key, value in inputs.items()},
        outputs,
        {
            "task_fn": f"{__name__}.task",
            "settings": json.dumps(SETTINGS | changed),
            "custom_config": json.dumps({"fault": fault}),
        },
    )
    return outputs["model"][0], outputs["report"][0]


@pytest.fixture(scope="module")
def built(encoder, tmp_path_factory):
    place = tmp_path_factory.mktemp("built")
    return run(encoder, embeddings(encoder, place), place)


def test_the_served_model_finds_what_an_exact_search_finds(built):
    model, _ = built
    served = tf.saved_model.load(f"{model.uri}/Format-Serving")
    rows, queries = numbers(CANDIDATES, seed=1), numbers(QUERIES, seed=2)
    texts = [" ".join(map(str, query)) for query in queries]
    answer = served.signatures["search"](
        query=tf.constant(texts), k=tf.constant(5)
    )
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :5]
    found = [
        len({f"c{b}".encode() for b in row}.intersection(names)) / 5
        for row, names in zip(best, answer["identifiers"].numpy(), strict=True)
    ]
    # It is certified for such queries, and did not search all.
    assert 0.8 <= np.mean(found)
    figures = json.loads(model.get_string_custom_property("recall"))
    assert figures["settings"]["blocks_to_search"] < CANDIDATES / 20
    assert np.mean(found) == pytest.approx(figures["measured_recall"], abs=0.05)


def test_recall_is_written_where_readers_look(built):
    model, report = built
    figures = json.loads(report.get_string_custom_property("recall"))
    assert figures == json.loads(model.get_string_custom_property("recall"))
    assert figures["certified_recall"] == pytest.approx(0.8)
    assert figures["confidence_level"] == 0.9
    assert (figures["k"], figures["candidates"]) == (5, CANDIDATES)
    assert (figures["queries"], figures["failed"]) == (QUERIES, 0)
    assert figures["measured_recall"] >= 0.8
    path = pathlib.Path(report.uri, "tuned_index.json")
    inside = "Format-Serving/assets.extra/tuned_index.json"
    assert path.read_text() == pathlib.Path(model.uri, inside).read_text()
    index = retrieval.BlockIndex(
        numbers(CANDIDATES, seed=1),
        [f"c{number}" for number in range(CANDIDATES)],
        k=20,
        blocks_to_search=CANDIDATES,
    )
    tuned = retrieval.TunedIndex.load(path, index)
    assert tuned.measured_recall == figures["measured_recall"]
    assert tuned.settings == figures["settings"]


def test_the_task_sees_the_query_splits_alone(built):
    assert built
    (pattern,) = SEEN[0].example_files
    assert "Split-calibration" in pattern
    assert isinstance(SEEN[0].encoder, keras.Model)


def test_an_index_of_another_encoder_is_refused(encoder, tmp_path):
    embedded = embeddings(encoder, tmp_path)
    embedded.set_string_custom_property("encoder", "0" * 64)
    with pytest.raises(
        ValueError, match="must be those of `encoder`.*000, and"
    ):
        run(encoder, embedded, tmp_path)
    assert not list((tmp_path / "model").iterdir())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("size", r"must have the size of candidates, \[queries, 8\]"),
        ("nan", "must be finite.*1 that are not"),
        ("candidates", "must not be candidates of the index"),
    ],
)
def test_queries_that_do_not_fit(encoder, tmp_path, fault, message):
    with pytest.raises(ValueError, match=message):
        run(encoder, embeddings(encoder, tmp_path), tmp_path, fault)
    assert not list((tmp_path / "model").iterdir())
    assert not list((tmp_path / "report").iterdir())


def test_an_export_that_writes_nothing(encoder, tmp_path):
    with pytest.raises(RuntimeError, match="must write a SavedModel"):
        run(encoder, embeddings(encoder, tmp_path), tmp_path, "export")
    assert not list((tmp_path / "report").iterdir())


def test_a_recall_that_is_not_certified_is_no_model_and_one_line(
    encoder, tmp_path
):
    # So few queries certify nothing.
    with pytest.raises(components.GateClosedError) as raised:
        run(
            encoder,
            embeddings(encoder, tmp_path),
            tmp_path,
            target_recall=0.9999,
        )
    assert str(raised.value).startswith("no index: ")
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "model").iterdir())


def test_candidates_without_an_embedding(encoder, tmp_path):
    embedded = embeddings(encoder, tmp_path, failed=[b"a", b""])
    with pytest.raises(
        components.GateClosedError,
        match="2 candidates could not.*at most 1 are accepted: 'a': too_short",
    ):
        run(encoder, embedded, tmp_path, max_failed=1)
    _, report = run(encoder, embedded, tmp_path / "kept", max_failed=2)
    figures = json.loads(report.get_string_custom_property("recall"))
    assert figures["failed"] == 2


def test_fewer_candidates_than_a_request_may_ask_for(encoder, tmp_path):
    embedded = embeddings(encoder, tmp_path, count=19)
    with pytest.raises(ValueError, match="at least max_k=20 .*Received: 19"):
        run(encoder, embedded, tmp_path)


def test_an_encoder_without_its_keras_model(tmp_path):
    empty = artifact(standard_artifacts.Model, tmp_path / "empty")
    (tmp_path / "empty" / "Format-Serving").mkdir()
    with pytest.raises(FileNotFoundError, match="model.keras"):
        run(empty, embeddings(empty, tmp_path), tmp_path)


def test_in_a_remote_store(encoder, remote):
    encoder = moved(encoder, f"{remote}/encoder")
    model, report = run(encoder, embeddings(encoder, remote), remote)
    assert set(files(report.uri)) == {"tuned_index.json"}
    served = tf.saved_model.load(f"{model.uri}/Format-Serving")
    assert "search" in served.signatures


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_recall": 1.5}, "`target_recall` must"),
        ({"k": 200}, "`k` must be at most max_k=100"),
        ({"max_failed": -1}, "`max_failed` must not be negative"),
    ],
)
def test_arguments_out_of_range(given, message):
    from tfx import types

    channels = {
        "encoder": types.Channel(type=standard_artifacts.Model),
        "embeddings": types.Channel(type=components.CandidateEmbeddings),
        "examples": types.Channel(type=standard_artifacts.Examples),
    }
    builder = components.IndexBuilder(**channels, task_fn="a.task")
    assert builder.outputs["report"].type is components.IndexReport
    with pytest.raises(ValueError, match=message):
        components.IndexBuilder(**channels, task_fn="a.task", **given)
