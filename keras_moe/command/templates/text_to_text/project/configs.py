"""All that can be chosen about a run. What is chosen is in config.yaml."""

import pathlib
from collections.abc import Mapping

from keras_moe.components import TextColumn
from keras_moe.orchestration import DEFAULT_FRACTIONS
from keras_moe.orchestration import CommandLine
from keras_moe.orchestration import Flag
from keras_moe.orchestration import Fraction
from keras_moe.orchestration import LocalPath
from keras_moe.orchestration import Positive
from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import Section
from keras_moe.orchestration import Span
from keras_moe.orchestration import SplitShares
from keras_moe.orchestration import TrainingSection
from keras_moe.orchestration import prepare_pairs
from keras_moe.training import TrainingBudget

# The output of the served model that is shown, and the bound it had to keep.
ANSWER, BOUND = "target", "max_error_rate"


class Column(Section):
    """How a text is read: by `character` or by `word`, and how long it is."""

    unit: str = "character"
    max_length: Positive = 32


class ProjectConfig(RunConfig, TrainingSection):
    """The configuration of a run.

    Attributes:
        data: a CSV file with the columns `source` and `target`.
        fractions: the shares of train, validation, calibration and test.
        source: how a source is read.
        target: how a target is written.
        training: how long to train, and at which rate.
        batch_size: pairs of an update.
        tolerance: what early answers may add to the error rate, at most.
        confidence_level: with which probability that holds.
        max_error_rate: nothing above it is pushed; 1 is an empty answer's.
        max_error_rate_increase: nor what is worse by more than the last.
    """

    pipeline_name = "$project"
    model_name = "$project"

    data: LocalPath = pathlib.Path("data/pairs.csv")
    fractions: SplitShares = DEFAULT_FRACTIONS
    source: Column = Column()
    target: Column = Column()
    training: TrainingBudget = TrainingBudget(
        min_steps=500, max_minutes=5.0, peak_learning_rate=2e-3
    )
    batch_size: Positive = 64
    tolerance: Fraction = 0.05
    confidence_level: Fraction = 0.95
    max_error_rate: float = 1.0
    max_error_rate_increase: float = 0.05

    def columns(self) -> dict[str, dict]:
        """Returns the arguments of `keras_moe.components.TextToText`."""
        return {
            name: {"name": name, **getattr(self, name).model_dump()}
            for name in ("source", "target")
        }


COMMAND_LINE = CommandLine(
    ProjectConfig, [Flag("data", "data", help="a CSV: source and target")]
)


def prepare(config: ProjectConfig) -> Span:
    """Writes the pairs as examples, a span for each state of the file."""
    source, target = (TextColumn(**c) for c in config.columns().values())

    def check(targets: Mapping[str, str]) -> None:
        source.check(targets)
        target.check(targets.values())

    return prepare_pairs(
        config.data, config.data_dir, config.fractions, check=check
    )
