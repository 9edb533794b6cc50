"""A pipeline on a few hundred synsets, run once for all tests of a process."""

import pytest

from pipelines.search.configs import COMMAND_LINE
from tests.pipelines.search.tiny_wordnet import many_entries
from tests.pipelines.search.tiny_wordnet import write_wordnet

TINY = """
data:
  fractions: [0.5, 0.1, 0.3, 0.1]
encoder:
  training: {steps: 40, batch_size: 32, max_minutes: 0}
index: {k: 5, max_k: 20, target_recall: 0.6, confidence_level: 0.8}
evaluation: {min_mrr: 0.02, min_recall: 0.02, max_fall: 0.5}
infra_requests: 2
"""


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    """Flags for a configuration in a folder of its own."""
    folder = tmp_path_factory.mktemp("search")
    write_wordnet(folder / "wordnet", many_entries(600))
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return [
        *("--config", str(path)),
        *("--output", str(folder / "out")),
        *("--wordnet", str(folder / "wordnet")),
    ]


def config_of(flags):
    return COMMAND_LINE.parse(COMMAND_LINE.parser("test"), flags)[1]
