"""The flags that the runner and the demo share."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import yaml

from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.configs import load_config

# Flags to the fields that they set; `--set` sets any field.
_TRAINING = {
    "steps": int,
    "batch_size": int,
    "peak_learning_rate": float,
    "max_minutes": float,
    "seed": int,
}
_FIELDS = {
    "output": "output",
    "dictionary": "data.dictionary",
    "max_words": "data.max_words",
    "preset": "teacher.preset",
    "max_phoneme_error_rate": "evaluation.max_phoneme_error_rate",
} | {name: f"teacher.training.{name}" for name in _TRAINING}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a parser. Defaults are those of `PipelineConfig`."""
    parser.add_argument(
        "--config",
        type=pathlib.Path,
        help="a YAML file with fields of the configuration; flags count more",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any field, such as student.training.steps=2000",
    )
    parser.add_argument(
        "--output",
        help="where data, metadata and models go (default: build/demo)",
    )
    parser.add_argument(
        "--dictionary",
        help="a CSV with the columns word and pronunciation (default: the "
        "installed CMU dictionary)",
    )
    parser.add_argument(
        "--keep-stress",
        action="store_true",
        help="keep the stress digits of vowels",
    )
    parser.add_argument(
        "--max-words", type=int, help="use a fixed sample of so many words"
    )
    parser.add_argument("--preset", help="the teacher to train")
    parser.add_argument(
        "--max-phoneme-error-rate",
        type=float,
        help="push no model above this rate",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="run every component, whether or not its inputs changed",
    )
    for name, kind in _TRAINING.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            help=f"the teacher's training: {name.replace('_', ' ')}",
        )


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, PipelineConfig]:
    """Parses the flags, and makes the configuration that they ask for.

    Args:
        parser: The parser, with its arguments.
        argv: The flags; `None` for those of the process.
    """
    arguments = parser.parse_args(argv)
    try:
        return arguments, load_config(arguments.config, _overrides(arguments))
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    overrides = {
        field: getattr(arguments, flag)
        for flag, field in _FIELDS.items()
        if getattr(arguments, flag) is not None
    }
    if arguments.keep_stress:
        overrides["data.keep_stress"] = True
    if arguments.no_cache:
        overrides["enable_cache"] = False
    for text in arguments.set:
        field, equals, value = text.partition("=")
        if not equals:
            raise ValueError(
                f"`--set` must be FIELD=VALUE. Received: --set {text}"
            )
        try:
            overrides[field] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"`--set` must give a value in YAML. Received: --set {text}"
            ) from error
    return overrides
