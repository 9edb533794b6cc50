"""`MirroredStrategy` of several devices, in processes of their own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "cases",
    [
        ["crossentropy", "refused", "topology"],
        pytest.param(["own_loop"], marks=pytest.mark.large),
        pytest.param(
            ["custom_train_steps", "faults", "keras_fit_of_layers"],
            marks=pytest.mark.large,
        ),
    ],
    ids=lambda cases: cases[0],
)
def test_replicas(cases):
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.replicas_case", *cases],
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-4000:]
