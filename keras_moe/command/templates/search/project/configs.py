"""All that can be chosen about a run. What is chosen is in config.yaml."""

import pathlib

from keras_moe.orchestration import DEFAULT_FRACTIONS
from keras_moe.orchestration import CommandLine
from keras_moe.orchestration import Flag
from keras_moe.orchestration import Fraction
from keras_moe.orchestration import LocalPath
from keras_moe.orchestration import Positive
from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import Span
from keras_moe.orchestration import SplitShares
from keras_moe.orchestration import TrainingSection
from keras_moe.orchestration import prepare_pairs
from keras_moe.training import TrainingBudget

# The output of the served model that is shown.
ANSWER = "identifiers"


class ProjectConfig(RunConfig, TrainingSection):
    """The configuration of a run.

    Attributes:
        data: a CSV file with the columns `source`, what is asked, and `target`,
            what is found.
        fractions: the shares of train, validation, calibration and test. All
            targets are found, whatever split they are in.
        training: how long to train, and at which rate.
        batch_size: pairs of an update: each has the others as negatives.
        k: answers of a request that does not say how many.
        max_k: greatest number of answers of a request.
        target_recall: share of the best `k` that the index must find.
        confidence_level: with which probability that holds.
        min_recall: nothing is pushed that finds fewer of the targets among its
            best `k`.
        max_recall_fall: nor what finds fewer than the last by more than that.
    """

    pipeline_name = "$project"
    model_name = "$project"

    data: LocalPath = pathlib.Path("data/pairs.csv")
    fractions: SplitShares = DEFAULT_FRACTIONS
    training: TrainingBudget = TrainingBudget(
        min_steps=100, max_minutes=3.0, peak_learning_rate=3e-3
    )
    batch_size: Positive = 64
    k: Positive = 10
    max_k: Positive = 50
    target_recall: Fraction = 0.9
    confidence_level: Fraction = 0.95
    min_recall: float = 0.0
    max_recall_fall: float = 0.05


COMMAND_LINE = CommandLine(
    ProjectConfig, [Flag("data", "data", help="a CSV: source and target")]
)


def prepare(config: ProjectConfig) -> Span:
    """Writes the pairs as examples, a span for each state of the file."""
    return prepare_pairs(
        config.data, config.data_dir, config.fractions, unique_targets=True
    )
