"""Flags of the embedded model server, named as the stock server's are."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from keras_moe.serving.server._request_log import RequestLog
from keras_moe.serving.server._tls import Tls

PROG = "python -m keras_moe.serving.server"
_FREE = "free"


class Command(NamedTuple):
    """The settings that the flags give.

    Attributes:
        server_options: the arguments of `Server`.
        ends_with_stdin: whether the server ends when its input does.
    """

    server_options: dict[str, Any]
    ends_with_stdin: bool


def parse(arguments: Sequence[str] | None = None, prog: str = PROG) -> Command:
    """Reads the flags.

    Args:
        arguments: the flags; `None` means those of the process.
        prog: the command, as help names it.

    Returns:
        The arguments of `Server`, and how it ends.

    Raises:
        SystemExit: the flags cannot be right; the reason is printed.
    """
    parser = _parser(prog)
    options = parser.parse_args(arguments)
    if (options.directory is None) == (options.model_base_path is None):
        parser.error("one of DIR and --model_base_path must be given")
    if bool(options.tls_certificate) != bool(options.tls_private_key):
        parser.error(
            "--tls_certificate and --tls_private_key go with each other"
        )
    try:
        server_options = {
            "model_name": options.model_name,
            "model_base_path": options.directory or options.model_base_path,
            "host": options.host,
            "grpc_port": options.port,
            "rest_port": options.rest_api_port,
            "poll_seconds": options.file_system_poll_wait_seconds,
            "intra_op_threads": options.tensorflow_intra_op_parallelism,
            "num_versions": options.num_versions,
            "max_request_bytes": options.max_request_bytes,
            "max_request_rows": options.max_request_rows,
            "max_batch_rows": (
                options.max_batch_rows if options.enable_batching else None
            ),
            "tls": _tls(options),
            "token": _token(options.token_file),
            "requests_per_second": options.requests_per_second,
            "burst": options.burst,
            "request_log": _request_log(options),
        }
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return Command(server_options, options.end_with_stdin)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="The embedded model server of keras_moe.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model_name", default="default", help="name that requests give")
    add("directory", metavar="DIR", nargs="?", help="folder of the versions")
    add("--model_base_path", help="the same, as the stock server has it")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=_port, default=8500, help=f"gRPC; 0: none; or '{_FREE}'")
    add("--rest_api_port", type=_port, default="0", help="REST, likewise")
    add("--file_system_poll_wait_seconds", type=float, default=1.0, help=" ")
    add("--tensorflow_intra_op_parallelism", type=int, default=1, help=" ")
    add("--num_versions", type=int, default=2, help="served at a time")
    add("--max_request_bytes", type=int, default=64 << 20, help=" ")
    add("--max_request_rows", type=int, default=4096, help="most examples")
    add(
        "--enable_batching",
        action="store_true",
        help="run requests together that wait for the same signature",
    )
    add("--max_batch_rows", type=int, default=32, help="most rows of a batch")
    add("--tls_certificate", type=pathlib.Path, help="PEM file")
    add("--tls_private_key", type=pathlib.Path, help="PEM file")
    add("--tls_client_authority", type=pathlib.Path, help="PEM file")
    add(
        "--token_file",
        type=pathlib.Path,
        help="file with the bearer token; a flag would show it to everybody",
    )
    add("--requests_per_second", type=float, help="more are refused")
    add("--burst", type=int, help="requests that may come at once")
    add("--request_log_directory", type=pathlib.Path, help="for the sample")
    add("--request_log_sampling_rate", type=float, default=0.01, help=" ")
    add(
        "--end_with_stdin",
        action="store_true",
        help="end when the standard input does, with the process that holds it",
    )
    return parser


def _port(text: str) -> int | None:
    """Reads a port as `Server` takes it: 0 for a free one, `None` for none."""
    if text == _FREE:
        return 0
    try:
        return int(text) or None
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a port, 0 or '{_FREE}'. Received: {text!r}"
        ) from None


def _tls(options: argparse.Namespace) -> Tls | None:
    if not options.tls_certificate:
        return None
    return Tls(
        options.tls_certificate,
        options.tls_private_key,
        options.tls_client_authority,
    )


def _token(path: pathlib.Path | None) -> str | None:
    return None if path is None else path.read_text().strip()


def _request_log(options: argparse.Namespace) -> RequestLog | None:
    if not options.request_log_directory:
        return None
    return RequestLog(
        options.request_log_directory, options.request_log_sampling_rate
    )
