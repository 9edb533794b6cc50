"""Another project's pipeline, compiled for a cluster."""

import json
import pathlib

import pytest

from keras_moe.orchestration import ClusterConfig
from keras_moe.orchestration import KubeflowRunner
from tests.orchestration import toys

pytestmark = pytest.mark.tfx

RUNNER = KubeflowRunner("tests.orchestration.toys.create_pipeline")
CLUSTER = ClusterConfig(
    output="gs://bucket/toys/", image="toys:1", source_dir="/image"
)


def make(**fields):
    return toys.ToyConfig(**{"cluster": CLUSTER, **fields})


def test_where_things_lie_in_the_cluster(tmp_path):
    job = RUNNER.compile(make(recipe=toys.__file__), tmp_path / "toys.json")
    assert json.loads((tmp_path / "toys.json").read_text()) == job
    spec = job["pipelineSpec"]
    assert spec["pipelineInfo"]["name"] == "toys"
    assert spec["defaultPipelineRoot"] == "gs://bucket/toys/pipeline"
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert parameters["recipe"]["defaultValue"] == (
        "/image/orchestration/toys.py"
    )
    assert "gs://bucket/toys/serving/train" in json.dumps(job)
    assert str(pathlib.Path(toys.__file__).parent) not in json.dumps(job)


def test_without_runtime_parameters(tmp_path):
    job = RUNNER.compile(make(), tmp_path / "toys.json")
    assert set(job["pipelineSpec"]["root"]["dag"]["tasks"]) == {
        "Maker",
        "Judge",
        "Pusher",
    }


def test_a_file_that_the_image_has_not(tmp_path):
    with pytest.raises(
        ValueError, match="`recipe` must lie in `orchestration/`.*recipe=/else"
    ):
        RUNNER.compile(make(recipe="/elsewhere"), tmp_path / "toys.json")


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        ("create_pipeline", "must be `package.module.function`"),
        ("tests.orchestration.toys.nothing", "must have a function `nothing`"),
    ],
)
def test_import_paths_of_nothing(tmp_path, function, rule):
    with pytest.raises(ValueError, match=rule):
        KubeflowRunner(function).compile(make(), tmp_path / "toys.json")


def test_the_command(tmp_path, capsys):
    config = tmp_path / "cluster.yaml"
    config.write_text("cluster: {output: gs://b/x, image: i}")
    file = tmp_path / "toys.yaml"
    flags = ["--config", str(config), "--file", str(file)]
    prog = "python -m toys.kubeflow_v2_runner"
    assert RUNNER.main(toys.COMMAND_LINE, prog, argv=flags) == 0
    assert capsys.readouterr().out == f"Wrote {file}\n"
    assert RUNNER.main(toys.COMMAND_LINE, prog, argv=flags[2:]) == 1
    assert "`cluster` must be configured" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # there is nothing to prepare
        RUNNER.main(toys.COMMAND_LINE, prog, argv=[*flags, "--prepare", "x"])

    def prepare(config, directory):
        return directory / config.making.colour

    runner = KubeflowRunner(toys.create_pipeline, prepare)
    flags += ["--prepare", "data", "--colour", "red"]
    assert runner.main(toys.COMMAND_LINE, prog, argv=flags) == 0
    assert capsys.readouterr().out.endswith("Prepared data/red\n")
