import pytest

from pipelines.search.configs import COMMAND_LINE
from pipelines.search.configs import PipelineConfig
from tests.pipelines.search.tiny_wordnet import write_wordnet

pytestmark = pytest.mark.tfx


def config_of(*flags):
    return COMMAND_LINE.parse(COMMAND_LINE.parser("test"), list(flags))[1]


def test_flags_reach_their_fields(tmp_path):
    write_wordnet(tmp_path)
    config = config_of(
        *("--wordnet", str(tmp_path), "--max-synsets", "900"),
        *("--target-recall", "0.9", "--steps", "70", "--max-minutes", "1.5"),
    )
    assert config.data.wordnet == tmp_path
    assert config.data.max_synsets == 900
    assert config.index.target_recall == 0.9
    training = config.encoder.training
    assert (training.steps, training.max_minutes) == (70, 1.5)
    assert training.min_steps <= 70
    # What was not given is that of the stage.
    default = PipelineConfig().encoder.training
    assert training.batch_size == default.batch_size


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--wordnet", "nowhere"), "must be a folder that exists"),
        (("--target-recall", "1"), "index.target_recall.*less than 1"),
        (("--set", "index.k=200"), "a `k` of at most `max_k`"),
        (("--set", "evaluation.min_mrr=2"), "less than or equal to 1"),
        (("--set", "data.fractions=[1, 0, 0, 0]"), "4 positive numbers"),
        (("--set", "data.schema_file=nowhere"), "must be a file that exists"),
        (("--set", "index.storage=float16"), "'float32', 'bfloat16' or 'int8'"),
    ],
)
def test_a_wrong_value_ends_in_one_sentence(flags, message, capsys):
    import re

    with pytest.raises(SystemExit):
        config_of(*flags)
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
