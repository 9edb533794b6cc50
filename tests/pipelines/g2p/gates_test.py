"""Each gate of the pipeline, tripped: nothing is pushed, and it says why."""

import sys

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2

from keras_moe.components.gates import (
    _embedded_server_runner as embedded_server_runner,
)
from pipelines.g2p import configs
from pipelines.g2p import local_runner
from tests.pipelines.g2p.conftest import config_of
from tests.pipelines.g2p.conftest import run
from tests.pipelines.g2p.conftest import versions

pytestmark = [pytest.mark.tfx, pytest.mark.large]


@pytest.fixture
def refused(pushed, capfd):
    """Runs with further flags, and returns the one line and the metadata's."""

    def refuse(*more):
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

    return refuse


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


def test_worse_than_the_last_blessed(refused, store, pushed, console):
    # Which of two students that have learned next to nothing is the worse one
    # is chance: it is measured.
    lenient = ["--set", "evaluation.max_phoneme_error_rate_increase=100"]
    students = [[], ["--set", "student.training.steps=1"]]
    rates = [
        run([*pushed, *student, *lenient], console)[0].metrics[
            "phoneme_error_rate"
        ]
        for student in students
    ]
    assert rates[0] != rates[1]
    better, worse = students if rates[0] < rates[1] else students[::-1]
    # Other thresholds make other candidates of the same students.
    last, _ = run(
        [*pushed, *better, *lenient, "--set", "exits.thresholds=[1.0, 0.52]"],
        console,
    )
    assert last.pushed is not None, last.reason
    line = refused(
        *worse,
        *("--set", "exits.thresholds=[1.0, 0.51]"),
        *("--set", "evaluation.max_phoneme_error_rate_increase=0"),
    )
    assert line.startswith("the Evaluator did not bless the model: ")
    assert "differs from the last blessed model's by" in line
    assert "at most 0.0000 is accepted" in line
    assert reason(store.get_artifacts_by_type("PushedModel")) in line


def test_failed_infra_validation(refused, store, monkeypatch):
    broken = (sys.executable, "-c", "raise SystemExit('out of order')")
    monkeypatch.setattr(embedded_server_runner, "_SERVER", broken)
    line = refused("--set", "infra_requests=4")
    assert line.startswith("the InfraValidator did not bless the model: ")
    assert "out of order" in line
    assert reason(store.get_artifacts_by_type("PushedModel")) in line
