"""The command of a demo: runs a pipeline, and shows what it pushed."""

import contextlib
import json
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

import numpy as np
from rich.console import Console

from keras_moe.atomic_file import atomic_file
from keras_moe.orchestration.configuration._command_line import CommandLine
from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.running._exit_code import exit_code
from keras_moe.orchestration.running._exit_code import require_pushed
from keras_moe.orchestration.running._local_runner import LocalRunner
from keras_moe.orchestration.running._outcome import Outcome

_REPORT = "report.json"

ConfigT = TypeVar("ConfigT", bound=RunConfig)


def demo_command(
    runner: LocalRunner[ConfigT],
    show: Callable[[ConfigT, Outcome, Console], Mapping[str, Any]],
    command_line: CommandLine[ConfigT],
    prog: str,
    description: str | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a pipeline as the flags say, and shows what it pushed.

    What was shown is written to `report.json` in the configuration's `output`,
    with the version that was pushed and the minutes since the clock started:
    the flag `--began`, for whom the set-up counts, or now.

    Example:
    ```python
    if __name__ == "__main__":
        sys.exit(
            keras_moe.orchestration.demo_command(
                RUNNER, show, COMMAND_LINE, "python -m my_project.demo", __doc__
            )
        )
    ```

    Args:
        runner: Runs the pipeline.
        show: Called with the configuration, the outcome and the console, where
            something was pushed. Returns what the report holds.
        command_line: The pipeline's flags.
        prog: The command, as it is typed.
        description: What it does, for `--help`.
        argv: The flags; `None` for those of the process.

    Returns:
        The exit code.
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

    def run() -> None:
        outcome = runner.run(config, console)
        require_pushed(outcome, console)
        shown = show(config, outcome, console)
        minutes = (time.time() - arguments.began) / 60
        report = {
            **shown,
            "minutes": round(minutes, 2),
            "version": int(outcome.pushed.name) if outcome.pushed else None,
        }
        with atomic_file(config.output / _REPORT) as partial:
            partial.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"{minutes:.1f} minutes since the start")

    return exit_code(run, config, console)


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


def ask_both_ways(
    client: Any,
    request: Mapping[str, Any],
    names: Collection[str],
    signature_name: str = "serving_default",
) -> Mapping[str, np.ndarray]:
    """Asks over gRPC and over REST, and makes sure that both say the same.

    Example:
    ```python
    with keras_moe.orchestration.served(config) as (_, client):
        request = {"query": ["a pet that barks"]}
        keras_moe.orchestration.ask_both_ways(client, request, ["identifiers"])
    ```

    Args:
        client: As `served` yields it.
        request: What is asked.
        names: The outputs that must be equal.
        signature_name: The signature.

    Returns:
        The answer over gRPC.

    Raises:
        RuntimeError: If the two differ.
    """
    by_grpc = client.predict(request, signature_name)
    by_rest = client.predict_rest(request, signature_name)
    for name in names:
        if by_grpc[name].tolist() != by_rest[name].tolist():
            raise RuntimeError(
                f"gRPC and REST must give the same {name!r}. Received: "
                f"{by_grpc[name]} and {by_rest[name]}"
            )
    return by_grpc
