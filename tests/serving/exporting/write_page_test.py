"""What an exporter writes for the page."""

import json

import pytest

from keras_moe import serving
from tests.serving import toy_model


@pytest.fixture
def model(models, tmp_path):
    return toy_model.push(models[2], tmp_path / "base", 1)


def test_it_replaces_the_page_that_was_there(model):
    path = model / "assets.extra" / "page.json"
    for title in ("Größe", "Size"):
        assert serving.write_page(model, {"title": title}) == path
        assert json.loads(path.read_text("utf-8")) == {"title": title}
    assert [file.name for file in path.parent.iterdir()] == ["page.json"]


def test_nothing_is_written_of_a_page_that_cannot_be_shown(model, tmp_path):
    with pytest.raises(ValueError, match="must name some of .*'word'"):
        serving.write_page(model, {"inputs": {"words": {}}})
    picture = {"file": "missing.png", "alt": "nothing"}
    with pytest.raises(FileNotFoundError, match="missing.png"):
        serving.write_page(model, {"pictures": [picture]})
    with pytest.raises(ValueError, match="the folder of a SavedModel"):
        serving.write_page(tmp_path, {})
    assert not (model / "assets.extra").exists()


def test_an_export_leaves_the_page_to_its_function(tmp_path):
    with pytest.raises(ValueError, match="`keras_moe.serving.write_page`"):
        serving.export_endpoints(
            tmp_path / "1",
            {"serving_default": (len, [toy_model.WORDS])},
            assets={"page.json": open},
        )
