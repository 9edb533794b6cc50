"""`tf.distribute.MirroredStrategy`, in processes of their own."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "cases",
    [
        ["losses_once", "metrics_of_all_replicas"],
        pytest.param(
            ["global_balance", "random_feature_statistics"],
            marks=pytest.mark.large,
        ),
    ],
    ids=lambda cases: cases[0],
)
def test_mirrored(cases):
    done = subprocess.run(
        [sys.executable, "-m", "tests.layers.mirrored_case", *cases],
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-4000:]
