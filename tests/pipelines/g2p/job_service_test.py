"""The same pipeline, with Beam's work done by a job service over gRPC."""

import socket
import subprocess
import sys
import time

import pytest

from tests.pipelines.g2p.conftest import make_flags
from tests.pipelines.g2p.conftest import run

pytestmark = [pytest.mark.tfx, pytest.mark.large]


@pytest.fixture
def endpoint():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module = "apache_beam.runners.portability.local_job_service_main"
    process = subprocess.Popen(
        [sys.executable, "-m", module, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


def test_the_whole_line(tmp_path, console, endpoint):
    flags = [
        *make_flags(tmp_path),
        "--set",
        "beam_pipeline_args=[--runner=PortableRunner, "
        f"--job_endpoint={endpoint}, --environment_type=LOOPBACK]",
    ]
    outcome, ran = run(flags, console)
    assert outcome.pushed is not None, outcome.reason
    assert {"StatisticsGen", "Transform", "Evaluator"} <= ran
