"""`tf.distribute.MirroredStrategy`, each case in a process of its own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "case",
    [
        "global_balance",
        "losses_once",
        "metrics_of_all_replicas",
        "random_feature_statistics",
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
