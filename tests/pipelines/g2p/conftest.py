"""A pipeline on a few hundred words, run once for all tests of a process."""

import pytest
from rich.console import Console

from pipelines.g2p.configs import COMMAND_LINE
from pipelines.g2p.local_runner import RUNNER

TINY = """
data:
  max_words: 400
  fractions: [0.4, 0.1, 0.4, 0.1]
teacher:
  preset: switch_tiny
  training: {steps: 20, batch_size: 16}
student:
  num_encoder_layers: 1
  training: {steps: 90, batch_size: 16, peak_learning_rate: 0.005}
exits:
  thresholds: [1.0, 0.5]
  tolerance: 0.3
serving: {batch_sizes: [1], lengths: [8]}
evaluation:
  # A few steps teach next to nothing: any rate will do here.
  max_phoneme_error_rate: 100
  max_phoneme_error_rate_increase: 0.5
"""


def make_flags(folder, text=TINY):
    """Flags for a configuration in a folder of its own."""
    path = folder / "tiny.yaml"
    path.write_text(text)
    return ["--config", str(path), "--output", str(folder / "out")]


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    return make_flags(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def pushed(flags):
    """The flags, after a run that pushed a model."""
    with open("/dev/null", "w") as file:
        console = Console(file=file)
        outcome = RUNNER.run(config_of(flags), console)
    assert outcome.pushed is not None, outcome.reason
    return flags


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console", "w") as file:
        yield Console(file=file, width=200)


def config_of(flags):
    return COMMAND_LINE.parse(COMMAND_LINE.parser("test"), flags)[1]


def run(flags, console):
    """Returns the outcome, and the names of what was not cached."""
    outcome = RUNNER.run(config_of(flags), console)
    return outcome, {run.name for run in outcome.runs if not run.cached}


def versions(flags):
    folder = config_of(flags).serving_dir
    return sorted(path.name for path in folder.glob("*"))
