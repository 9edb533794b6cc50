"""The runner is killed again and again; each next run goes on."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.pipelines.g2p.conftest import make_flags

pytestmark = [
    pytest.mark.tfx,
    pytest.mark.large,
    pytest.mark.timeout(1800),
]

# In the order in which they are reached.
BEFORE_PUSH = (
    "ImportExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "training",
    "Trainer",
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
    process = subprocess.run(
        [
            *(sys.executable, "-m", "tests.pipelines.g2p.killed_runner"),
            ",".join(places),
            *make_flags(tmp_path),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    ends = [json.loads(line) for line in process.stdout.splitlines()]
    assert [end["place"] for end in ends] == list(places)
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
    assert "Nothing changed" in process.stderr
