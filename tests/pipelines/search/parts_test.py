"""What the components run, one after the other, on a tiny WordNet."""

import functools
import json
import pathlib
import shutil

import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe import serving
from keras_moe.components.retrieval._candidate_embedder import (
    CandidateEmbedderExecutor,
)
from keras_moe.components.retrieval._index_builder import IndexBuilderExecutor
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import read_records
from pipelines.search.data.prepare import prepare_synsets
from pipelines.search.modules import trainer
from tests.components.artifacts_of import artifact
from tests.pipelines.search.conftest import config_of

pytestmark = pytest.mark.tfx


@pytest.fixture(scope="module")
def config(flags):
    return config_of(flags)


@pytest.fixture(scope="module")
def span(config, tmp_path_factory):
    return prepare_synsets(config.data, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def examples(span, tmp_path_factory):
    made = artifact(
        standard_artifacts.Examples, tmp_path_factory.mktemp("ex"), SPLITS
    )
    for split in SPLITS:
        folder = pathlib.Path(made.uri, f"Split-{split}")
        folder.mkdir()
        (folder / "data.gz").symlink_to(span.records(split))
    return made


@pytest.fixture(scope="module")
def encoder(config, examples, tmp_path_factory):
    made = artifact(standard_artifacts.Model, tmp_path_factory.mktemp("enc"))
    run = tmp_path_factory.mktemp("run")
    arguments = FnArgs(
        train_files=[f"{examples.uri}/Split-train/*"],
        eval_files=[f"{examples.uri}/Split-validation/*"],
        serving_model_dir=f"{made.uri}/Format-Serving",
        model_run_dir=str(run),
        custom_config={"training": vars(config.encoder.training)},
    )
    # To move the whole table at each step takes seconds.
    small = functools.partial(trainer.Sizes, num_terms=8192, dim=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Sizes", small)
        trainer.run_fn(arguments)
    assert json.loads((run / "history.json").read_text())["loss"]
    return made


@pytest.fixture(scope="module")
def embeddings(encoder, examples, tmp_path_factory):
    made = artifact(
        components.CandidateEmbeddings, tmp_path_factory.mktemp("rows")
    )
    settings = {
        "identifier_key": "synset",
        "signature_name": "embed_candidates",
        "splits": SPLITS,
        "num_shards": 2,
        "batch_size": 64,
    }
    CandidateEmbedderExecutor().Do(
        {"model": [encoder], "examples": [examples]},
        {"embeddings": [made]},
        {"settings": json.dumps(settings)},
    )
    return made


@pytest.fixture(scope="module")
def served(encoder, embeddings, examples, tmp_path_factory):
    place = tmp_path_factory.mktemp("built")
    outputs = {
        "model": [artifact(standard_artifacts.Model, place / "model")],
        "report": [artifact(components.IndexReport, place / "report")],
    }
    settings = {
        "target_recall": 0.6,
        "k": 5,
        "max_k": 20,
        "confidence_level": 0.8,
        "storage": "float32",
        "max_failed": 0,
        "splits": ["calibration"],
        "seed": 0,
    }
    IndexBuilderExecutor().Do(
        {
            "encoder": [encoder],
            "embeddings": [embeddings],
            "examples": [examples],
        },
        outputs,
        {
            "task_fn": "pipelines.search.modules.search_task.search_task",
            "settings": json.dumps(settings),
            "custom_config": json.dumps({"k": 3, "max_queries": 150}),
        },
    )
    return pathlib.Path(outputs["model"][0].uri, "Format-Serving")


def test_all_synsets_are_embedded_in_one_size(embeddings, span):
    rows = components.read_embeddings(embeddings.uri)
    assert len(rows.identifiers) == sum(span.counts.values())
    assert not rows.failed


def test_glosses_that_were_not_learned_find_their_words(served, span):
    signature = tf.saved_model.load(str(served)).signatures["examples"]
    records = tf.data.TFRecordDataset(str(span.records("test")), "GZIP")
    answer = signature(examples=tf.stack(list(records)))
    wanted = [each["synset"][0] for each in read_records(span.records("test"))]
    assert answer["identifiers"].shape == [len(wanted), 20]
    found = [
        name.encode() in row[:5]
        for name, row in zip(wanted, answer["identifiers"].numpy(), strict=True)
    ]
    # Chance is 5 of 600.
    assert sum(found) / len(found) > 0.3


def test_a_query_with_too_few_letters_is_not_answered(served, tmp_path):
    folder = tmp_path / "search"
    shutil.copytree(served, folder / "1")
    queries = ["a red animal of the city", "a 1 b", "", "x" * 2000]
    options = {"rest_port": None, "poll_seconds": 0.05}
    with serving.Server("search", folder, **options) as server:
        server.wait_until_available()
        assert server.servable.warmup_requests == 2
        with serving.Client(
            grpc_port=server.grpc_port, model_name="search"
        ) as client:
            answer = client.predict({"query": queries})
            more = client.predict({"query": queries[:1], "k": 8}, "search")
    assert answer["status"].tolist() == [
        *(b"ok", b"too_short", b"too_short", b"too_long")
    ]
    assert answer["identifiers"].shape == (4, 3)
    assert all(answer["identifiers"][0])
    assert not any(name for row in answer["identifiers"][1:] for name in row)
    assert more["identifiers"].shape == (1, 8)
    assert more["identifiers"][0, :3].tolist() == (
        answer["identifiers"][0].tolist()
    )
