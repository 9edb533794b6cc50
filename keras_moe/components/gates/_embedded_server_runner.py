"""Runs the embedded model server for TFX's InfraValidator."""

import json
import os
import pathlib
import selectors
import subprocess
import sys
import tempfile
import time

from tfx.components.infra_validator import error_types
from tfx.components.infra_validator.model_server_runners import base_runner

_SECONDS_TO_STOP = 20.0
_SERVER = (sys.executable, "-m", "keras_moe.serving.server")


class EmbeddedServerRunner(base_runner.BaseModelServerRunner):
    """A model server in a process of its own, on the loopback interface.

    Args:
        model_path: directory of a version, `.../<model name>/<version>`.
        model_name: what requests name.
    """

    def __init__(self, model_path: str, model_name: str) -> None:
        self._base = os.path.dirname(model_path)
        self._name = model_name
        self._process: subprocess.Popen[str] | None = None
        self._endpoint: str | None = None
        self._log = tempfile.TemporaryFile("w+")

    def __repr__(self) -> str:
        return f"EmbeddedServerRunner({self._base})"

    def GetEndpoint(self) -> str:  # noqa: N802 (TFX's names)
        """Returns host and port."""
        if self._endpoint is None:
            raise RuntimeError("The server is not running.")
        return self._endpoint

    def Start(self) -> None:  # noqa: N802
        """Starts the process; returns at once."""
        package = pathlib.Path(__file__).parents[3]
        paths = [str(package), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [
                *_SERVER,
                f"--model_name={self._name}",
                f"--model_base_path={self._base}",
                "--port=free",
                # The pipe to the server closes when this process ends, however
                # it ends: the server never outlives it.
                "--end_with_stdin",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def WaitUntilRunning(self, deadline: float) -> None:  # noqa: N802
        """Waits for the port.

        Raises:
            JobAborted: if the process ended.
            DeadlineExceeded: if it took too long.
        """
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("The server was not started.")
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(deadline - time.time(), 0.0)):
                raise error_types.DeadlineExceeded(
                    "the model server did not start in time"
                )
        line = self._process.stdout.readline()
        if not line:
            raise error_types.JobAborted(
                f"the model server ended with {self._process.wait()}"
            )
        self._endpoint = f"127.0.0.1:{json.loads(line)['grpc_port']}"

    def GetLogs(self) -> str:  # noqa: N802
        """Returns what the server wrote."""
        self._log.seek(0)
        return self._log.read()

    def Stop(self) -> None:  # noqa: N802
        """Ends the process."""
        if self._process is None:
            return
        if self._endpoint is None:
            # Nobody was answered yet, and its input is not read for seconds.
            self._process.kill()
        try:
            self._process.communicate(timeout=_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._process = None
