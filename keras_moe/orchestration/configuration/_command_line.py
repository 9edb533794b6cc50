"""The flags that the commands of a pipeline share."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any
from typing import Generic
from typing import TypeVar

import yaml

from keras_moe.orchestration.configuration._flag import Flag
from keras_moe.orchestration.configuration._load_config import load_config
from keras_moe.orchestration.configuration._load_config import parse_yaml
from keras_moe.orchestration.configuration._run_config import RunConfig

ConfigT = TypeVar("ConfigT", bound=RunConfig)


class CommandLine(Generic[ConfigT]):
    """The flags that the commands of a pipeline share.

    Every pipeline has `--config FILE`, `--set FIELD=VALUE`, `--output` and
    `--no-cache`. A flag counts more than the file.

    Example:
    >>> class ToyConfig(keras_moe.orchestration.RunConfig):
    ...     steps: int = 100
    >>> command_line = keras_moe.orchestration.CommandLine(
    ...     ToyConfig, [keras_moe.orchestration.Flag("steps", "steps", int)]
    ... )
    >>> parser = command_line.parser("python -m toys.local_runner")
    >>> _, config = command_line.parse(parser, ["--steps", "20", "--no-cache"])
    >>> config.steps, config.enable_cache
    (20, False)

    Args:
        config_class: The configuration of the pipeline.
        flags: The project's own flags.

    Attributes:
        config_class: As given.
    """

    def __init__(
        self, config_class: type[ConfigT], flags: Sequence[Flag] = ()
    ) -> None:
        output = config_class.model_fields["output"].default
        self.config_class = config_class
        self._flags = (
            Flag(
                "output",
                "output",
                help=f"where data, metadata and models go (default: {output})",
            ),
            *flags,
        )

    def parser(
        self, prog: str, description: str | None = None
    ) -> argparse.ArgumentParser:
        """Returns a parser of the flags, to which a command may add its own.

        Args:
            prog: The command, as it is typed.
            description: What it does, such as the module's docstring.
        """
        parser = argparse.ArgumentParser(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--config",
            type=pathlib.Path,
            help="a YAML file with fields of the configuration; flags count "
            "more",
        )
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help="any field, such as enable_cache=false",
        )
        parser.add_argument(
            "--no-cache",
            action="store_true",
            help="run every component, whether or not its inputs changed",
        )
        for flag in self._flags:
            kind: dict[str, Any] = {"type": flag.kind}
            if flag.kind is bool:
                kind = {"action": "store_const", "const": True}
            parser.add_argument(flag.option, help=flag.help, **kind)
        return parser

    def parse(
        self,
        parser: argparse.ArgumentParser,
        argv: Sequence[str] | None = None,
    ) -> tuple[argparse.Namespace, ConfigT]:
        """Parses the flags, and makes the configuration that they ask for.

        A flag that is wrong, or asks for a configuration that is, ends the
        process with one sentence and exit code 2.

        Args:
            parser: One that `parser` made.
            argv: The flags; `None` for those of the process.

        Returns:
            `(arguments, config)`.
        """
        arguments = parser.parse_args(argv)
        try:
            return arguments, load_config(
                self.config_class, arguments.config, self._overrides(arguments)
            )
        except (FileNotFoundError, ValueError) as error:
            parser.error(str(error))

    def _overrides(self, arguments: argparse.Namespace) -> dict[str, Any]:
        overrides = {
            flag.field: getattr(arguments, flag.name)
            for flag in self._flags
            if getattr(arguments, flag.name) is not None
        }
        if arguments.no_cache:
            overrides["enable_cache"] = False
        for text in arguments.set:
            field, equals, value = text.partition("=")
            if not equals:
                raise ValueError(
                    f"`--set` must be FIELD=VALUE. Received: --set {text}"
                )
            try:
                overrides[field] = parse_yaml(value)
            except yaml.YAMLError as error:
                raise ValueError(
                    f"`--set` must give a value in YAML. Received: --set {text}"
                ) from error
        return overrides
