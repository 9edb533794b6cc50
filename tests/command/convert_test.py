import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import SafetensorError
from typer.testing import CliRunner

from keras_moe import conversion
from keras_moe.command._app import app
from keras_moe.conversion.checkpoints import _save_hugging_face
from tests.conversion.checkpoints import hugging_face_case as case
from tests.conversion.checkpoints import load_mesh_tensorflow_test as mesh
from tests.conversion.checkpoints import t5x_case

IDS = np.array([[5, 6, 7, 1]])
INPUTS = {"encoder_token_ids": IDS, "decoder_token_ids": IDS}


def run(*words, code=0):
    done = CliRunner().invoke(app, ["convert", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    case.write(folder, case.SWITCH, case.tensors_of(case.SWITCH))
    return folder


def test_there_and_back(source, tmp_path):
    done = run(source, tmp_path / "ours.keras")
    tensors = len(case.tensors_of(case.SWITCH))
    # Three experts make one weight of each bank: wi and wo, in both stacks.
    assert f"{tensors} tensors, {tensors - 4 * 2} weights" in done.stdout
    wanted = conversion.load_hugging_face(source)(INPUTS)
    ours = keras.saving.load_model(tmp_path / "ours.keras")
    np.testing.assert_array_equal(ours(INPUTS), wanted)
    done = run(tmp_path / "ours.keras", tmp_path / "again", "--json")
    found = json.loads(done.stdout)
    assert found["config"] == ours.config.to_dict()
    assert found["weights"]["target_embedding/embeddings"] == ["shared.weight"]
    again = conversion.load_hugging_face(tmp_path / "again")
    np.testing.assert_array_equal(again(INPUTS), wanted)


def test_mesh_tensorflow(tmp_path):
    theirs = mesh.renamed(case.tensors_of(case.SWITCH), "legacy", 1)
    prefix = mesh.write(tmp_path / "model.ckpt-7", theirs)
    said = run(prefix, tmp_path / "m.keras", code=1).output
    assert "`--config` must be given" in said
    config = tmp_path / "config.json"
    config.write_text(json.dumps(mesh.CONFIG.to_dict()))
    run(prefix, tmp_path / "m.keras", "--config", config, "--dtype", "bfloat16")
    model = keras.saving.load_model(tmp_path / "m.keras")
    assert model.dtype_policy.name == "bfloat16"
    config.write_text('{"sizes": 3}')
    said = run(prefix, tmp_path / "n.keras", "--config", config, code=1).output
    assert "sizes" in said


def test_t5x(tmp_path):
    _, tensors = t5x_case.tensors_of(case.SWITCH)
    folder = t5x_case.write(tmp_path / "checkpoint_7", tensors)
    config = tmp_path / "config.json"
    config.write_text('{"dropout_rate": 0.25}')
    done = run(folder, tmp_path / "m.keras", "--config", config, "--json")
    found = json.loads(done.stdout)
    assert found["config"]["dropout_rate"] == 0.25
    assert len(found["weights"]) == len(tensors)
    config.write_text('{"num_heads": 3}')
    said = run(folder, tmp_path / "n.keras", "--config", config, code=1).output
    assert "`num_heads` must be 2" in said


@pytest.mark.parametrize("name", ["m.keras", "m"])
def test_a_full_disk_leaves_nothing(source, name, tmp_path, monkeypatch):
    def fail(*given, **_):
        next(Path(each) for each in given if isinstance(each, Path)).touch()
        raise failure

    def fail_to_save(model, path):
        fail(path)

    failure = OSError(28, "No space left on device")
    monkeypatch.setattr(keras.Model, "save", fail_to_save)
    if name == "m":
        failure = SafetensorError("No space left on device")
        monkeypatch.setattr(_save_hugging_face, "save_file", fail)
    before = sorted(tmp_path.iterdir())
    said = run(source, tmp_path / name, code=1).stderr
    assert "Not converted" in said and "No space left" in said
    assert sorted(tmp_path.iterdir()) == before


# Ends as a lack of memory would end it: nothing is tidied up.
KILLED = """
import os, signal, sys
from keras_moe.command._app import app

def die(*given, **_):
    os.kill(os.getpid(), signal.SIGKILL)

os.replace = die
app(["convert", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    "name", ["m", pytest.param("m.keras", marks=pytest.mark.large)]
)
def test_killed_it_leaves_no_half_of_a_target(source, name, tmp_path):
    command = [sys.executable, "-c", KILLED, source, tmp_path / name]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / name).exists()
    run(source, tmp_path / name)
    assert (tmp_path / name).exists()


def test_names_are_no_markup(source, tmp_path):
    said = run(source, tmp_path / os.fsdecode(b"x[bold]\xff")).stdout
    assert "x[bold]\\udcff" in said


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_is_refused(source, options, tmp_path):
    keras.Sequential([keras.Input([2])]).save(tmp_path / "other.keras")
    (tmp_path / "empty").mkdir()
    refused = {
        (source, source): "`DST` must be new",
        (source, "m.h5"): "`DST` must end with .keras, or",
        (source, "none/m.keras"): "must lie in a directory that exists",
        (tmp_path / "none", "m.keras"): "must be a directory",
        (tmp_path / "empty", "m.keras"): "must hold config.json",
        (tmp_path / "other.keras", "m.keras"): "must hold a SwitchTransformer",
    }
    for (given, target), words in refused.items():
        said = run(given, tmp_path / target, *options, code=1).output
        if options:
            said = json.loads(said)["error"]
        assert words in said.replace("\n", " "), (given, target)
    assert not (tmp_path / "m.keras").exists()


def test_options_of_other_sources(source, tmp_path):
    run(source, tmp_path / "a.keras")
    for given, words in {
        (source, "--config", "x.json"): "alone. Received it for",
        (tmp_path / "a.keras", "--dtype", "bfloat16"): "a dtype of its own",
    }.items():
        given, *options = given
        said = run(given, tmp_path / "b", *options, code=1).output
        assert words in said.replace("\n", " ")


def test_usage():
    assert run(code=2).output
    done = CliRunner().invoke(app, ["convert", "--help"])
    assert "mesh-tensorflow" in done.stdout
