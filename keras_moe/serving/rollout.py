"""The command that promotes and rolls back the versions of a model.

```
python -m keras_moe.serving.rollout status serving/my_model
python -m keras_moe.serving.rollout promote serving/my_model
python -m keras_moe.serving.rollout rollback serving/my_model
```
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.versions._rollout import Rollout
from keras_moe.serving.versions._stock_config import stock_steps
from keras_moe.serving.versions._version_folders import find_versions
from keras_moe.validation import check_not_negative


def main(arguments: Sequence[str] | None = None) -> int:
    """Shows or changes the rollout of a model; see the module."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_moe.serving.rollout",
        description="Labels, promotion and rollback of served versions.",
    )
    parser.add_argument(
        "command",
        choices=("status", "promote", "rollback", "restore"),
        help="`rollback` withdraws what is newer than the stable version",
    )
    parser.add_argument("model_base_path", type=pathlib.Path)
    parser.add_argument(
        "--version", type=int, help="to promote (the newest) or to restore"
    )
    parser.add_argument(
        "--model_config_file",
        type=pathlib.Path,
        help="also write the stock server's configuration",
    )
    parser.add_argument(
        "--poll_wait_seconds",
        type=float,
        default=10,
        help="that server's --model_config_file_poll_wait_seconds (10): a "
        "version that gets a label must be loaded before, and is waited for "
        "twice as long",
    )
    parser.add_argument("--model_name", help="in it; the folder's name")
    parser.add_argument("--config_base_path", help="in it; /models/NAME")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    check_not_negative(poll_wait_seconds=options.poll_wait_seconds)
    base = options.model_base_path
    versions = list(find_versions(base))
    if not versions:
        raise ValueError(
            "`model_base_path` must hold numbered versions of a model. "
            f"Received: model_base_path={str(base)!r}"
        )
    before = _read_config(options.model_config_file)
    rollout = Rollout.read(base)
    if options.command == "promote":
        rollout = rollout.promote(versions, options.version)
    elif options.command == "rollback":
        rollout = rollout.roll_back(versions)
    elif options.command == "restore":
        if options.version is None:
            raise ValueError("`restore` needs --version.")
        rollout = rollout.restore(options.version)
    if options.command != "status":
        rollout.write(base)
    if options.model_config_file:
        name = options.model_name or base.resolve().name
        path = options.config_base_path or f"/models/{name}"
        (wanted,) = rollout.stock_config(
            versions, name, path
        ).model_config_list.config
        _write_configs(options, stock_steps(before, wanted, versions))
    for label, version in rollout.labels(versions).items():
        print(f"{label}: {version}")
    if rollout.withdrawn:
        print("withdrawn:", *sorted(rollout.withdrawn))
    return 0


def _read_config(
    path: pathlib.Path | None,
) -> model_server_config_pb2.ModelServerConfig:
    """Reads what the stock server follows; it is empty if there is none."""
    config = model_server_config_pb2.ModelServerConfig()
    if path is not None and path.exists():
        try:
            text_format.Parse(path.read_text(), config)
        except text_format.ParseError as error:
            raise ValueError(
                f"{path} must hold a ModelServerConfig as text, or not exist. "
                f"{error}"
            ) from error
    return config


def _write_configs(
    options: argparse.Namespace,
    configs: Sequence[model_server_config_pb2.ModelServerConfig],
) -> None:
    for number, config in enumerate(configs):
        if number:
            seconds = 2 * options.poll_wait_seconds
            print(
                "The stock server must load a version before it has a label: "
                f"waiting {seconds:g} s to write the labels. If this is "
                "interrupted, run `status` with the same flags.",
                file=sys.stderr,
            )
            time.sleep(seconds)
        with atomic_file(options.model_config_file) as partial:
            partial.write_text(text_format.MessageToString(config))


if __name__ == "__main__":
    sys.exit(main())
