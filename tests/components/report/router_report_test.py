import json
import pathlib

import numpy as np
import pytest
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe.calibration import calibrate
from keras_moe.components.report._model_card import model_card
from keras_moe.components.report._router_report import RouterReportExecutor
from keras_moe.models import SwitchTransformer
from keras_moe.visualization import LayerLoads
from keras_moe.weights import fingerprint
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx


def inputs(args):
    (pattern,) = args.example_files
    assert "Split-validation" in pattern
    ids = np.random.default_rng(0).integers(2, 32, (20, 5))
    return {"encoder_token_ids": ids, "decoder_token_ids": ids}


def kept(model, directory):
    made = artifact(standard_artifacts.Model, directory)
    extra = directory / "Format-Serving" / "assets.extra"
    extra.mkdir(parents=True)
    model.save(extra / "model.keras")
    return made


@pytest.fixture(scope="module")
def models():
    teacher = SwitchTransformer.from_preset("switch_tiny")
    student = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    return teacher, student


def make_inputs(models, tmp_path):
    teacher, student = models
    certificate = calibrate(np.zeros([200, 1]), [0.5], tolerance=0.05)
    granted = artifact(components.Certificate, tmp_path / "granted")
    certificate.save(tmp_path / "granted" / "certificate.json")
    return {
        "teacher": kept(teacher, tmp_path / "teacher"),
        "examples": artifact(
            standard_artifacts.Examples, tmp_path / "x", ["validation"]
        ),
        "model": kept(student, tmp_path / "student"),
        "certificate": granted,
    }


def run(inputs, place):
    outputs = {
        "expert_load": [artifact(components.ExpertLoad, f"{place}/load")],
        "model_card": [artifact(components.ModelCard, f"{place}/card")],
    }
    RouterReportExecutor().Do(
        {key: [value] for key, value in inputs.items()},
        outputs,
        {
            "inputs_fn": f"{__name__}.inputs",
            "splits": json.dumps(["validation"]),
            "model_name": "little",
            "custom_config": "{}",
        },
    )
    return files(f"{place}/load"), files(f"{place}/card")


def check(models, load, card):
    assert set(load) == {"expert_load.png", "expert_load.json"}
    picture = load["expert_load.png"]
    assert picture.startswith(b"\x89PNG")
    for layer in json.loads(load["expert_load.json"]).values():
        assert len(layer["load"]) == 4
        assert sum(layer["load"]) == pytest.approx(1.0)
    (text,) = card.values()
    text = text.decode()
    assert "# Model card: little" in text
    for model in models:
        assert f"{model.count_params():,}" in text
    assert "threshold 0.5 is at most 0.05" in text
    assert "does not say which model" in text


def test_pictures_and_card(models, tmp_path):
    load, card = run(make_inputs(models, tmp_path), tmp_path)
    check(models, load, card)
    assert pathlib.Path(tmp_path, "card", "model_card.md").is_file()


def test_a_certificate_of_another_model_is_no_part_of_a_card(models, tmp_path):
    teacher, student = models
    granted = calibrate(
        np.zeros([200, 1]), [0.5], 0.05, fingerprint=fingerprint(teacher)
    )
    inputs = make_inputs(models, tmp_path)
    granted.save(tmp_path / "granted" / "certificate.json")
    with pytest.raises(ValueError, match="is not one for what was given"):
        run(inputs, tmp_path)


def test_in_a_remote_store(models, remote, tmp_path):
    inputs = {
        key: moved(value, f"{remote}/inputs/{key}")
        for key, value in make_inputs(models, tmp_path / "local").items()
    }
    load, card = run(inputs, remote)
    check(models, load, card)


def test_a_card_names_the_worst_slices_first():
    loads = LayerLoads(("moe",), (np.array([0.5, 0.5, 0.0]),), (0.25,))
    evaluation = {
        "overall": {"error": 0.1},
        "letters=a": {"error": 3},
        "letters=b": {"error": 9},
        "letters=c": {"error": 5},
    }
    text = model_card(
        "little",
        SwitchTransformer.from_preset("switch_tiny"),
        loads,
        evaluation=evaluation,
        ranked_by="error",
    )
    assert "| moe | 3 | 0.00 to 1.50 | 1 | 25.0% |" in text
    assert text.index("letters=b") < text.index("letters=c")
    assert text.index("letters=c") < text.index("letters=a")
    assert "Early exit" not in text
