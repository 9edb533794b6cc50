"""Each gate of the pipeline, tripped: nothing is pushed, and it says why."""

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2

from keras_moe.components import embedded_server_runner
from pipelines import configs
from pipelines import local_runner
from tests.pipelines.conftest import config_of
from tests.pipelines.conftest import versions

pytestmark = [pytest.mark.tfx, pytest.mark.large]


@pytest.fixture
def refused(pushed, capfd):
    """Runs with further flags, and returns the one line and the metadata's."""

    def run(*more):
        before = versions(pushed)
        assert local_runner.main([*pushed, *more]) == 1
        assert versions(pushed) == before
        lines = [
            line
            for line in capfd.readouterr().err.splitlines()
            if "Nothing was pushed" in line
        ]
        assert len(lines) == 1
        return lines[0].partition("Nothing was pushed: ")[2]

    return run


@pytest.fixture
def store(pushed):
    """The metadata, read beside TFX."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(config_of(pushed).metadata_path)
    return mlmd.MetadataStore(connection)


def reason(entries):
    newest = max(entries, key=lambda entry: entry.id)
    return newest.custom_properties["reason"].string_value


def failed(store):
    return [
        execution
        for execution in store.get_executions()
        if execution.last_known_state == metadata_store_pb2.Execution.FAILED
    ]


def test_no_certificate(refused, store):
    line = refused("--set", "exits.tolerance=0.000001")
    assert line.startswith("no certificate: No threshold is certified")
    assert reason(failed(store)) in line


def test_anomalous_data(refused, store, tmp_path):
    schema = tmp_path / "schema.pbtxt"
    known = configs.DataConfig().schema_file.read_text()
    schema.write_text(known.replace('  value: "e"\n', ""))
    line = refused("--set", f"data.schema_file={schema}")
    assert line.startswith("the data are anomalous: letters (train)")
    assert reason(failed(store)) in line


def test_worse_than_the_last_blessed(refused, store):
    # On so little training any error is near the other: none may be added.
    line = refused(
        *("--set", "student.training.steps=1"),
        *("--set", "evaluation.max_phoneme_error_rate_increase=0.0"),
    )
    assert line.startswith("the Evaluator did not bless the model: ")
    assert "differs from the last blessed model's by" in line
    assert "at most 0.0000 is accepted" in line
    assert reason(store.get_artifacts_by_type("PushedModel")) in line


def test_failed_infra_validation(refused, store, monkeypatch):
    monkeypatch.setattr(
        embedded_server_runner, "_SERVE", "raise SystemExit('out of order')"
    )
    line = refused("--set", "infra_requests=4")
    assert line.startswith("the InfraValidator did not bless the model: ")
    assert "out of order" in line
    assert reason(store.get_artifacts_by_type("PushedModel")) in line
