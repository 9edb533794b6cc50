"""The pipeline as Kubeflow and Vertex read it, and as they would run it."""

import json
import pathlib
import re

import pytest
import yaml
from google.auth import credentials
from google.cloud import aiplatform
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.pipeline_spec import pipeline_spec_pb2

import pipelines
from keras_moe.orchestration import ClusterConfig
from pipelines.g2p import configs
from pipelines.g2p import kubeflow_v2_runner
from pipelines.g2p.data.prepare import prepare_words
from tests.pipelines.g2p.conftest import TINY
from tests.pipelines.g2p.conftest import config_of
from tests.pipelines.g2p.conftest import make_flags
from tests.pipelines.g2p.emulated_cluster import EmulatedCluster

pytestmark = pytest.mark.tfx

DEPLOY = pathlib.Path(pipelines.__file__).parent / "deploy"
# Beside the components, what the two queries of a resolver become.
TASKS = {
    "AnomalyGate",
    "Distiller",
    "Evaluator",
    "ExampleValidator",
    "ExitCalibrator",
    "ImportExampleGen",
    "ImportSchemaGen",
    "InfraValidator",
    "Pusher",
    "RouterReport",
    "StatisticsGen",
    "Trainer",
    "Transform",
    "last_blessed-model-blessing-resolver",
    "last_blessed-model-resolver",
}


@pytest.fixture(scope="module")
def cluster_config():
    return configs.load_config(DEPLOY / "cluster.yaml")


@pytest.fixture(scope="module", params=["2.0", "2.1"])
def compiled(request, cluster_config, tmp_path_factory):
    """The file of each schema, and the schema."""
    path = tmp_path_factory.mktemp(request.param) / "g2p.json"
    kubeflow_v2_runner.RUNNER.compile(cluster_config, path, request.param)
    return path, request.param


def test_the_specification_is_of_its_schema(compiled):
    path, version = compiled
    job = json.loads(path.read_text())
    parsed = json_format.ParseDict(
        job["pipelineSpec"],
        pipeline_spec_pb2.PipelineSpec(),
    )
    assert parsed.schema_version == f"{version}.0"
    assert set(parsed.root.dag.tasks) == TASKS
    assert job["runtimeConfig"]["gcsOutputDirectory"] == (
        "gs://my-bucket/g2p/pipeline"
    )


def test_tasks_wait_for_what_they_read_and_for_the_gate(compiled):
    path, _ = compiled
    spec = json.loads(path.read_text())["pipelineSpec"]
    tasks = spec["root"]["dag"]["tasks"]
    for name, task in tasks.items():
        sources = task.get("inputs", {}).get("artifacts", {}).values()
        producers = {
            source["taskOutputArtifact"]["producerTask"] for source in sources
        }
        assert producers <= set(tasks), name
    assert "AnomalyGate" in tasks["Transform"]["dependentTasks"]
    assert {"Evaluator", "InfraValidator"} <= set(
        tasks["Pusher"]["dependentTasks"]
    )


def test_resources_accelerators_and_images(compiled, cluster_config):
    path, _ = compiled
    spec = json.loads(path.read_text())["pipelineSpec"]
    containers = {
        label.removesuffix("_executor"): executor["container"]
        for label, executor in spec["deploymentSpec"]["executors"].items()
        if "container" in executor
    }
    trainer = containers["Trainer"]["resources"]
    assert (trainer["cpuLimit"], trainer["memoryLimit"]) == (8.0, 32.0)
    assert trainer["accelerator"]["type"] == "NVIDIA_TESLA_T4"
    assert int(trainer["accelerator"]["count"]) == 1
    assert "accelerator" not in containers["Distiller"]["resources"]
    assert "resources" not in containers["Pusher"]
    image = cluster_config.cluster.image
    assert {container["image"] for container in containers.values()} == {image}


def test_an_image_of_its_own(cluster_config, tmp_path):
    cluster = cluster_config.cluster.model_copy(
        update={"images": {"Trainer": "with-drivers:2"}}
    )
    job = kubeflow_v2_runner.RUNNER.compile(
        cluster_config.model_copy(update={"cluster": cluster}),
        tmp_path / "g2p.json",
    )
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["Trainer_executor"]["container"]["image"] == (
        "with-drivers:2"
    )
    assert executors["Distiller_executor"]["container"]["image"] == (
        cluster.image
    )


def test_runtime_parameters(compiled):
    path, _ = compiled
    spec = json.loads(path.read_text())["pipelineSpec"]
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert set(given) == {"data_dir", "schema_file"}
    tasks = spec["root"]["dag"]["tasks"]
    for task, key, name in (
        ("ImportExampleGen", "input_base", "data_dir"),
        ("ImportSchemaGen", "schema_file", "schema_file"),
    ):
        source = tasks[task]["inputs"]["parameters"][key]
        assert source == {"componentInputParameter": name}


def test_no_path_of_this_machine_is_in_it(compiled):
    path, _ = compiled
    root = pathlib.Path(pipelines.__file__).parents[1]
    assert str(root) not in path.read_text()


DEFAULTS = {
    "data_dir": "gs://my-bucket/g2p/data",
    "schema_file": "/project/pipelines/g2p/data/schema.pbtxt",
}


@pytest.mark.parametrize("given", [{}, {"data_dir": "gs://other/data"}])
def test_vertex_takes_it_offline(compiled, given):
    path, _ = compiled
    job = aiplatform.PipelineJob(
        display_name="g2p",
        template_path=str(path),
        parameter_values=given,
        project="a-project",
        location="europe-west1",
        credentials=credentials.AnonymousCredentials(),
    )
    runtime = job.runtime_config
    values = dict(runtime.parameter_values or {}) or {
        key: value.string_value for key, value in runtime.parameters.items()
    }
    assert values == DEFAULTS | given
    assert runtime.gcs_output_directory == "gs://my-bucket/g2p/pipeline"


def test_kubeflow_loads_it(cluster_config, tmp_path):
    path = tmp_path / "g2p.yaml"
    kubeflow_v2_runner.RUNNER.compile(cluster_config, path)
    loaded = kfp_components.load_component_from_file(str(path))
    spec = loaded.pipeline_spec
    assert spec.pipeline_info.name == configs.PIPELINE_NAME
    assert spec.default_pipeline_root == "gs://my-bucket/g2p/pipeline"
    assert set(spec.root.dag.tasks) == TASKS
    inputs = loaded.component_spec.inputs
    assert {name: each.default for name, each in inputs.items()} == DEFAULTS


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{}", "`cluster` must be configured"),
        (
            "cluster: {output: gs://b/x, image: i, resources: {Trainr: {}}}",
            "`cluster.resources` must name components of the pipeline: "
            ".*Trainer.*Received: Trainr",
        ),
        (
            "cluster: {output: gs://b/x, image: i, images: {last_blessed: j}}",
            "`cluster.images` must name components.*Transform. Received: last",
        ),
        (
            "serving: {batch_sizes: [], lengths: []}\n"
            "infra_image_tags: [latest]\ncluster: {output: /x, image: i}",
            "`infra_image_tags` needs a container engine.*Received: latest",
        ),
        (
            "cluster: {output: gs://b/x, image: i, images: {Pushr: j}}",
            "`cluster.images` must name components.*Received: Pushr",
        ),
    ],
)
def test_what_does_not_fit_a_cluster(tmp_path, text, rule):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    file = tmp_path / "g2p.json"
    with pytest.raises(ValueError, match=rule):
        kubeflow_v2_runner.RUNNER.compile(configs.load_config(path), file)
    assert not file.exists()


def test_a_schema_outside_the_image(tmp_path, cluster_config):
    schema = tmp_path / "schema.pbtxt"
    schema.write_text("")
    data = cluster_config.data.model_copy(update={"schema_file": schema})
    with pytest.raises(
        ValueError, match="`schema_file` must lie in `pipelines/`.*Rec"
    ):
        kubeflow_v2_runner.RUNNER.compile(
            cluster_config.model_copy(update={"data": data}),
            tmp_path / "g2p.json",
        )


@pytest.mark.parametrize(
    ("file", "version", "rule"),
    [
        ("g2p.txt", "2.1", "must end in .json or .yaml"),
        ("g2p.yaml", "2.0", "must end in .json for the schema 2.0"),
        ("g2p.json", "3.0", "must be one of 2.0, 2.1. Received.*3.0"),
    ],
)
def test_what_cannot_be_written(cluster_config, tmp_path, file, version, rule):
    with pytest.raises(ValueError, match=rule):
        kubeflow_v2_runner.RUNNER.compile(
            cluster_config, tmp_path / file, version
        )


def test_the_command(tmp_path, capsys):
    file = tmp_path / "g2p.yaml"
    flags = ["--config", str(DEPLOY / "cluster.yaml"), "--file", str(file)]
    data = tmp_path / "data"
    flags += ["--prepare", str(data), "--max-words", "200"]
    assert kubeflow_v2_runner.main(flags) == 0
    assert (data / "span-1" / "train").is_dir()
    assert yaml.safe_load(file.read_text())["pipelineInfo"]["name"] == "g2p"
    assert kubeflow_v2_runner.main(["--file", str(file)]) == 1
    assert "`cluster` must be configured" in capsys.readouterr().err


def test_the_image_holds_what_the_specification_names():
    text = (DEPLOY / "components.Dockerfile").read_text()
    root = DEPLOY.parents[1]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    sources = " ".join(copied).split()
    assert {"keras_moe", "pipelines"} <= set(sources)
    assert all((root / source).exists() for source in sources)
    # What the set-up reads is there before it runs.
    setup = text.index("RUN bash dev/setup.sh")
    for needed in ("setup.py", "README.md", "constraints", "dev", "keras_moe"):
        assert 0 < text.index(needed) < setup
    source_dir = ClusterConfig.model_fields["source_dir"].default
    assert f"PYTHONPATH={source_dir} " in text
    assert text.count(f"WORKDIR {source_dir}\n") == 2


@pytest.mark.large
def test_the_whole_line_by_the_entry_point_of_the_cluster(tmp_path):
    """Every component, started as a container of the cluster would be."""
    config = config_of(
        [
            *make_flags(tmp_path, TINY),
            "--set",
            f"cluster={{output: {tmp_path / 'shared'}, image: none}}",
        ]
    )
    shared = tmp_path / "shared"
    prepare_words(config.data, shared / "data")
    job = kubeflow_v2_runner.RUNNER.compile(config, tmp_path / "g2p.json")
    cluster = EmulatedCluster(
        job,
        shared / "pipeline",
        {
            "data_dir": str(shared / "data"),
            "schema_file": str(config.data.schema_file),
        },
    )
    made = cluster.run()
    assert set(cluster.order) == TASKS
    (version_directory,) = (shared / "serving" / configs.MODEL_NAME).iterdir()
    assert (version_directory / "saved_model.pb").is_file()
    certificate = made["ExitCalibrator"]["certificate"]["uri"]
    assert pathlib.Path(certificate, "certificate.json").is_file()
