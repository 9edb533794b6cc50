"""The runner is killed again and again; each next run goes on."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_moe.distillation import load_teacher
from tests.pipelines.g2p.conftest import TINY
from tests.pipelines.g2p.conftest import make_flags

pytestmark = [
    pytest.mark.tfx,
    pytest.mark.large,
    pytest.mark.timeout(1800),
]

# Updates of the teacher and of the student, see `killed_runner`.
KILLED_AT = (11, 77)
# In the order in which they are reached.
BEFORE_PUSH = (
    "ImportExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "teaching",
    "Trainer",
    "distilling",
    "Distiller",
    "ExitCalibrator",
    "InfraValidator",
    "Evaluator",
    "pushing",
)
AFTER_PUSH = ("recording", "Pusher", "RouterReport")
# Twice without a kill: it ends, and then has nothing to do.
UNHARMED = ("nowhere", "nowhere")


def test_killed_at_each_boundary_and_inside(tmp_path):
    """Most of these runs train nothing: what had ended is in the cache."""
    places = (*BEFORE_PUSH, *AFTER_PUSH, *UNHARMED)
    ends, said = run(places, make_flags(tmp_path))
    versions = ends[-1]["versions"]
    assert len(versions) == 1
    for end in ends:
        killed = end["place"] not in UNHARMED
        assert end["code"] == (-signal.SIGKILL if killed else 0), end
        # Nothing half written is seen, and what was pushed is pushed once.
        seen = [] if end["place"] in BEFORE_PUSH else versions
        assert end["versions"] == seen, end
        assert end["served"] == (seen[0] if seen else None), end
    # What a kill left beside the version is gone.
    serving = next((tmp_path / "out" / "serving").iterdir())
    assert [path.name for path in serving.iterdir()] == versions
    assert "Nothing changed" in said


def test_killed_trainings_go_on_as_if_nothing_had_happened(tmp_path):
    config = TINY.replace("steps:", "max_minutes: 0, steps:")
    assert config.count("max_minutes: 0") == 2
    folders = {}
    for name, places in {
        # What comes after the student does not matter here.
        "whole": ["Distiller"],
        "part": ["teaching", "distilling", "Distiller"],
    }.items():
        folder = folders[name] = tmp_path / name
        folder.mkdir()
        ends, said = run(places, make_flags(folder, config))
        assert {end["code"] for end in ends} == {-signal.SIGKILL}, said
    # A checkpoint is due after each fourth update. The last one may have been
    # in writing when the kill came; the one before was on the disk.
    resumed = re.findall(r"Resuming at step (\d+)", said)
    assert len(resumed) == 2
    for step, killed_at in zip(resumed, KILLED_AT, strict=True):
        assert killed_at - 8 <= int(step) < killed_at
    for component, output in (("Trainer", "model"), ("Distiller", "student")):
        (whole, history), (part, resumed_history) = (
            read(folder / "out/pipeline" / component, output)
            for folder in folders.values()
        )
        # Losses and validation losses of all epochs, bit for bit.
        assert resumed_history == history and len(history["val_loss"]) > 3
        for mine, theirs in zip(part, whole, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for folder in folders.values():
            left = folder / "out/pipeline" / component / ".checkpoints"
            assert not left.exists()


def run(places, flags):
    """Runs the killed runner; returns what it says of each run, and stderr."""
    process = subprocess.run(
        [
            *(sys.executable, "-m", "tests.pipelines.g2p.killed_runner"),
            ",".join(places),
            *flags,
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    ends = [json.loads(line) for line in process.stdout.splitlines()]
    assert [end["place"] for end in ends] == list(places)
    return ends, process.stderr


def read(component, output):
    """Returns the weights and the history that a component wrote."""
    (model,) = (component / output).glob("*/Format-Serving")
    (history,) = component.glob("*_run/*/history.json")
    weights = load_teacher(model).get_weights()
    return weights, json.loads(history.read_text())
