"""`tf.distribute.MirroredStrategy`, each case in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("global_balance", marks=pytest.mark.large),
        "losses_once",
        "metrics_of_all_replicas",
        pytest.param("random_feature_statistics", marks=pytest.mark.large),
    ],
)
def test_mirrored(case):
    done = subprocess.run(
        [sys.executable, "-m", "tests.layers.mirrored_case", case],
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-4000:]
