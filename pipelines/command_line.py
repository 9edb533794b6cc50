"""The flags that the runner and the demo share."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from pipelines.configs import PipelineConfig

# Flags that override a field of `TrainingConfig`, with their types.
_TRAINING = {
    "steps": int,
    "batch_size": int,
    "peak_learning_rate": float,
    "max_minutes": float,
    "seed": int,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to a parser. Defaults are those of `PipelineConfig`."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(PipelineConfig)
    }
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        default=defaults["output"],
        help="where data, metadata and models go (default: build/demo)",
    )
    parser.add_argument(
        "--dictionary",
        type=pathlib.Path,
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
    parser.add_argument(
        "--preset", default=defaults["preset"], help="the model to train"
    )
    parser.add_argument(
        "--max-phoneme-error-rate",
        type=float,
        default=defaults["max_phoneme_error_rate"],
        help="push no model above this rate (default: %(default)s)",
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
            help=f"training: {name.replace('_', ' ')}",
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
        return arguments, _config_from(arguments)
    except ValueError as error:
        parser.error(str(error))


def _config_from(arguments: argparse.Namespace) -> PipelineConfig:
    training = {
        name: getattr(arguments, name)
        for name in _TRAINING
        if getattr(arguments, name) is not None
    }
    return PipelineConfig(
        output=arguments.output,
        dictionary=arguments.dictionary,
        keep_stress=arguments.keep_stress,
        max_words=arguments.max_words,
        preset=arguments.preset,
        training=training,
        max_phoneme_error_rate=arguments.max_phoneme_error_rate,
        enable_cache=not arguments.no_cache,
    )
