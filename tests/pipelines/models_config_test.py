"""The stock server's files say what the embedded server does."""

import pathlib
import re

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import pipelines
from keras_moe.serving import Rollout
from keras_moe.serving.server import _server_metrics as server_metrics

DEPLOY = pathlib.Path(pipelines.__file__).parent / "deploy"


def test_models_config_is_what_the_command_writes():
    config = text_format.Parse(
        (DEPLOY / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    assert config == Rollout().stock_config([1, 2], "g2p", "/models/g2p")
    (model,) = config.model_config_list.config
    assert model.model_version_policy.latest.num_versions == 2
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def test_container_follows_the_configuration():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for flag in (
        "model_config_file_poll_wait_seconds=",
        "allow_version_labels_for_unavailable_models=true",
    ):
        assert f'"--{flag}' in dockerfile


def test_both_servers_are_scraped_at_the_same_path():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())[
        "scrape_configs"
    ]
    assert job["metrics_path"] == server_metrics.PATH
    stock = (DEPLOY / "monitoring.config").read_text()
    assert re.search(r'path: "(.*)"', stock)[1] == server_metrics.PATH
