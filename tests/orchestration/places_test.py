"""Where components find things, here and in a cluster."""

import pathlib

import pytest

from keras_moe.orchestration import find_places
from tests.orchestration.toys import ToyConfig

pytestmark = pytest.mark.tfx

CLUSTER = {"output": "gs://b/toys/", "image": "i", "source_dir": "/image/"}


def test_on_this_machine(tmp_path):
    config = ToyConfig(output=tmp_path)
    places = find_places(config)
    assert places.data_dir == str(tmp_path / "data")
    assert places.serving_dir == str(tmp_path / "serving" / "train")
    assert places.metadata_path == str(tmp_path / "metadata.sqlite")
    # No image: a file may lie anywhere.
    assert places.file("rules", "/elsewhere/rules.txt", tmp_path) == (
        "/elsewhere/rules.txt"
    )


def test_in_a_cluster():
    places = find_places(ToyConfig(cluster=CLUSTER))
    assert places.pipeline_root == "gs://b/toys/pipeline"
    assert places.serving_dir == "gs://b/toys/serving/train"
    assert places.metadata_path is None
    data = places.data_dir
    assert (data.name, data.default) == ("data_dir", "gs://b/toys/data")
    project = pathlib.Path("/home/me/project")
    rules = places.file("rules", project / "a" / "rules.txt", project)
    assert (rules.name, rules.default) == ("rules", "/image/a/rules.txt")
    with pytest.raises(ValueError, match="`rules` must lie in `a/`.*rules=/ho"):
        places.file("rules", project / "b" / "rules.txt", project, "a")


@pytest.mark.parametrize(
    ("cluster", "rule"),
    [
        ({"output": "here", "image": "i"}, "pattern"),
        ({"output": "gs://b"}, "Field required"),
        ({**CLUSTER, "source_dir": "work"}, "pattern"),
        ({**CLUSTER, "image": ""}, "at least 1 character"),
        ({**CLUSTER, "resources": {"Maker": {"cpu": 0}}}, "greater than 0"),
        ({**CLUSTER, "resources": {"Maker": {"gpus": 1}}}, "not permitted"),
    ],
)
def test_clusters_that_are_none(cluster, rule):
    with pytest.raises(ValueError, match=rule):
        ToyConfig(cluster=cluster)
