"""The pipeline as Kubeflow and Vertex read it."""

import json

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from keras_moe.orchestration import ClusterConfig
from pipelines.search import kubeflow_v2_runner
from pipelines.search.configs import PipelineConfig
from tests.pipelines.search.tiny_wordnet import many_entries
from tests.pipelines.search.tiny_wordnet import write_wordnet

pytestmark = pytest.mark.tfx

TASKS = {
    *("ImportExampleGen", "ImportSchemaGen", "StatisticsGen"),
    *("ExampleValidator", "AnomalyGate", "Trainer", "CandidateEmbedder"),
    *("IndexBuilder", "Evaluator", "InfraValidator", "Pusher"),
    *("last_blessed-model-blessing-resolver", "last_blessed-model-resolver"),
}


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_the_specification_is_of_its_schema(tmp_path, version):
    config = PipelineConfig(
        cluster=ClusterConfig(output="gs://my-bucket/search", image="my-image")
    )
    path = tmp_path / "search.json"
    kubeflow_v2_runner.RUNNER.compile(config, path, version)
    parsed = json_format.ParseDict(
        json.loads(path.read_text())["pipelineSpec"],
        pipeline_spec_pb2.PipelineSpec(),
    )
    assert parsed.schema_version == f"{version}.0"
    tasks = parsed.root.dag.tasks
    assert set(tasks) == TASKS
    # Nothing is searched that another model embedded.
    after = {name: set(task.dependent_tasks) for name, task in tasks.items()}
    assert {"Trainer", "CandidateEmbedder"} <= after["IndexBuilder"]
    assert "AnomalyGate" in after["Trainer"]


def test_the_command(tmp_path, capsys):
    write_wordnet(tmp_path / "wordnet", many_entries(300))
    file, data = tmp_path / "search.yaml", tmp_path / "data"
    flags = [
        *("--set", "cluster={output: gs://my-bucket/search, image: mine}"),
        *("--wordnet", str(tmp_path / "wordnet")),
        *("--file", str(file), "--prepare", str(data)),
    ]
    assert kubeflow_v2_runner.main(flags) == 0
    assert (data / "span-1" / "train").is_dir()
    assert file.is_file()
    assert kubeflow_v2_runner.main(["--file", str(file)]) == 1
    assert "`cluster` must be configured" in capsys.readouterr().err
