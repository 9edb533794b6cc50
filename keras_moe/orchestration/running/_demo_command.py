"""The command of a demo: runs a pipeline, and shows what it pushed."""

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from rich.console import Console

from keras_moe.orchestration.configuration._command_line import CommandLine
from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.running._exit_code import exit_code

ConfigT = TypeVar("ConfigT", bound=RunConfig)


def demo_command(
    run_demo: Callable[[ConfigT, Console, float], Any],
    command_line: CommandLine[ConfigT],
    prog: str,
    description: str | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a demo as the flags say; returns the exit code.

    Example:
    ```python
    if __name__ == "__main__":
        sys.exit(
            keras_moe.orchestration.demo_command(
                run_demo, COMMAND_LINE, "python -m my_project.demo", __doc__
            )
        )
    ```

    Args:
        run_demo: Called with the configuration, the console, and the time at
            which the clock started, as `time.time()` has it: the flag
            `--began`, for whom the set-up counts, or now.
        command_line: The pipeline's flags.
        prog: The command, as it is typed.
        description: What it does, for `--help`.
        argv: The flags; `None` for those of the process.
    """
    parser = command_line.parser(prog, description)
    parser.add_argument(
        "--began",
        type=float,
        default=time.time(),
        help="when the clock started, in seconds since 1970 (default: now)",
    )
    arguments, config = command_line.parse(parser, argv)
    console = Console(stderr=True, highlight=False)
    return exit_code(
        lambda: run_demo(config, console, arguments.began), config, console
    )


@contextlib.contextmanager
def served(
    config: RunConfig, timeout: float = 60.0
) -> Iterator[tuple[Any, Any]]:
    """Serves what a pipeline pushed, on the loopback interface.

    Example:
    ```python
    with keras_moe.orchestration.served(config) as (server, client):
        client.predict({"query": ["a pet that barks"]})
    ```

    Args:
        config: The pipeline's.
        timeout: Seconds in which the model must be loaded; programs that XLA
            compiles take their time.

    Yields:
        The embedded `Server`, and a `Client` that knows both of its ports.
    """
    # Imported late: a run that is not served needs no gRPC.
    from keras_moe.serving import Client
    from keras_moe.serving import Server

    with Server(config.model_name, config.serving_dir) as server:
        server.wait_until_available(timeout)
        with Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name=config.model_name,
        ) as client:
            yield server, client
