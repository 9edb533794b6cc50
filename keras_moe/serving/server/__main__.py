"""The command that runs the embedded model server.

```
python -m keras_moe.serving.server --model_name=my_model \
    --model_base_path=serving/my_model --port=8500 --rest_api_port=8501
```

A line of JSON on the standard output tells the ports as soon as they are
listened on, such as `{"grpc_port": 8500, "rest_port": null}`.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from keras_moe.serving.server import _command_line as command_line
from keras_moe.serving.server._server import Server

_LOG = logging.getLogger("keras_moe.serving.server")


def main(
    arguments: Sequence[str] | None = None, prog: str = command_line.PROG
) -> None:
    """Serves until it is told to stop; flags are named as the stock ones.

    Args:
        arguments: the flags; `None` means those of the process.
        prog: the command, as help names it.
    """
    command = command_line.parse(arguments, prog)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        server = Server(**command.server_options)
    except (OSError, ValueError) as error:
        # A traceback would hide the one line that says what is wrong.
        sys.exit(str(error))
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    if command.ends_with_stdin:
        threading.Thread(
            target=_set_at_end_of_stdin, args=[stop], daemon=True
        ).start()
    started = time.monotonic()
    with server:
        ports = {"grpc_port": server.grpc_port, "rest_port": server.rest_port}
        print(json.dumps(ports), flush=True)
        _LOG.info("Embedded model server: %s", ports)
        stop.wait()
    _LOG.info("Stopped after %.0f s", time.monotonic() - started)


def _set_at_end_of_stdin(stop: threading.Event) -> None:
    # `sys.stdin.read` would hold a lock. If a signal ends the server first, the
    # interpreter aborts because a daemon thread still holds that lock.
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    stop.set()


if __name__ == "__main__":
    main()
