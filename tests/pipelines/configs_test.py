import dataclasses
import pathlib

import pytest

from pipelines import demo
from pipelines.configs import PipelineConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.5, 0.5)}, "4 positive numbers"),
        ({"fractions": (0.7, 0.1, 0.1, 0.2)}, "sum to 1"),
        ({"training": {"stpes": 3}}, "Received: stpes"),
        ({"training": {"steps": 0}}, "`steps` must be positive"),
        ({"max_words": 0}, "max_words=0"),
        ({"max_phoneme_error_rate": 0}, "must be positive"),
        ({"preset": "nope"}, "`preset` must be one of.*nope"),
    ],
)
def test_invalid(options, message):
    with pytest.raises(ValueError, match=message):
        PipelineConfig(**options)


def test_paths_are_absolute_and_variations_keep_the_rest():
    config = PipelineConfig(output=pathlib.Path("somewhere"), max_words=7)
    assert config.metadata_path.is_absolute()
    varied = dataclasses.replace(config, training={"steps": 3})
    assert varied.max_words == 7


def test_flags_with_a_bad_value_end_in_one_sentence(capsys):
    with pytest.raises(SystemExit) as raised:
        demo.main(["--steps", "0"])
    assert raised.value.code == 2
    assert "`steps` must be positive" in capsys.readouterr().err


def test_a_missing_dictionary_ends_in_one_sentence(tmp_path, capsys):
    flags = ["--output", str(tmp_path), "--dictionary", "nowhere.csv"]
    assert demo.main(flags) == 1
    assert "nowhere.csv does not exist" in capsys.readouterr().err
