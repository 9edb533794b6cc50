"""Two replicas train a student as one does."""

import subprocess
import sys

import pytest


# Six trainings are traced.
@pytest.mark.large
def test_replicas_train_as_one():
    done = subprocess.run(
        [sys.executable, "-m", "tests.distillation.mirrored_case"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("two replicas train as one") == 3
