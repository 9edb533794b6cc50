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
from collections.abc import Sequence

from google.protobuf import text_format

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.versions._rollout import Rollout
from keras_moe.serving.versions._version_folders import find_versions


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
    parser.add_argument("--model_name", help="in it; the folder's name")
    parser.add_argument("--config_base_path", help="in it; /models/NAME")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    base = options.model_base_path
    versions = list(find_versions(base))
    if not versions:
        raise ValueError(
            "`model_base_path` must hold numbered versions of a model. "
            f"Received: model_base_path={str(base)!r}"
        )
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
        config = rollout.stock_config(versions, name, path)
        with atomic_file(options.model_config_file) as partial:
            partial.write_text(text_format.MessageToString(config))
    for label, version in rollout.labels(versions).items():
        print(f"{label}: {version}")
    if rollout.withdrawn:
        print("withdrawn:", *sorted(rollout.withdrawn))
    return 0


if __name__ == "__main__":
    sys.exit(main())
