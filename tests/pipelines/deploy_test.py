"""The deployment files agree with their schemas, the pipeline, one another."""

import pathlib
import re

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from pipelines.g2p import configs

DEPLOY = pathlib.Path(configs.__file__).parents[1] / "deploy"


@pytest.fixture(scope="module")
def dockerfile():
    return (DEPLOY / "Dockerfile").read_text()


def test_models_config_serves_the_pushed_model(dockerfile):
    config = text_format.Parse(
        (DEPLOY / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )

    (model,) = config.model_config_list.config
    assert model.name == configs.MODEL_NAME
    assert f"COPY ${{MODEL}} {model.base_path}\n" in dockerfile
    assert model.model_version_policy.latest.num_versions == 2


def test_container_finds_its_files(dockerfile):
    pushed = pathlib.Path("build/demo/serving", configs.MODEL_NAME)
    assert f"ARG MODEL={pushed}\n" in dockerfile
    for name in re.findall(r"/etc/serving/([\w.]+)", dockerfile):
        assert (DEPLOY / name).is_file()
        assert f"pipelines/deploy/{name}" in dockerfile


def test_batch_sizes_end_in_the_largest():
    text = (DEPLOY / "batching.config").read_text()
    (largest,) = re.findall(r"max_batch_size { value: (\d+) }", text)
    sizes = [int(n) for n in re.findall(r"allowed_batch_sizes: (\d+)", text)]

    assert sizes == sorted(sizes)
    assert sizes[-1] == int(largest)


def test_servers_may_compile(dockerfile):
    flag = "--xla_cpu_compilation_enabled=true"
    manifest = yaml.safe_load((DEPLOY / "inference_service.yaml").read_text())
    assert f'"{flag}"' in dockerfile
    assert flag in manifest["spec"]["predictor"]["model"]["args"]


def test_monitoring_is_on():
    text = (DEPLOY / "monitoring.config").read_text()

    assert re.search(r"prometheus_config {\s+enable: true", text)


def test_inference_service():
    manifest = yaml.safe_load((DEPLOY / "inference_service.yaml").read_text())

    assert manifest["apiVersion"] == "serving.kserve.io/v1beta1"
    assert manifest["kind"] == "InferenceService"
    assert manifest["metadata"]["name"] == configs.MODEL_NAME
    model = manifest["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    # The folder of versions, not a version.
    assert not model["storageUri"].rstrip("/").split("/")[-1].isdigit()
