import pytest

from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import read_records
from keras_moe.orchestration import split_of
from pipelines.g2p.configs import DataConfig
from pipelines.g2p.data.prepare import length_of
from pipelines.g2p.data.prepare import prepare_words

pytestmark = pytest.mark.tfx

WORDS = {f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "words.csv"
    rows = [f"{word},AH0 B\n{word},B AH1\n" for word in sorted(WORDS)]
    path.write_text("word,pronunciation\n" + "".join(rows))
    return DataConfig(dictionary=path)


def read(span, split):
    return list(read_records(span.records(split)))


def test_every_word_is_in_its_split_with_all_its_pronunciations(
    config, tmp_path
):
    span = prepare_words(config, tmp_path / "data")
    assert sum(span.counts.values()) == len(WORDS)
    for split in SPLITS:
        for example in read(span, split):
            (word,) = example["word"]
            assert split_of(word) == split
            assert example["pronunciations"] == ["AH B|B AH"]
            # Evaluation tells these apart.
            assert example["letters"] == sorted(set(word))
            assert example["word_length"] == ["1-4"]


@pytest.mark.parametrize("options", [{"keep_stress": True}, {"max_words": 90}])
def test_a_changed_option_is_another_span(config, tmp_path, options):
    prepare_words(config, tmp_path / "data")
    changed = config.model_copy(update=options)
    span = prepare_words(changed, tmp_path / "data")
    assert span.number == 2
    assert sum(span.counts.values()) == options.get("max_words", len(WORDS))
    listed = read(span, "train")[0]["pronunciations"]
    assert listed == [
        "AH0 B|B AH1" if "keep_stress" in options else "AH B|B AH"
    ]


@pytest.mark.parametrize(
    ("length", "name"),
    [
        *((1, "1-4"), (4, "1-4"), (5, "5-7")),
        *((10, "8-10"), (11, "11+"), (32, "11+")),
    ],
)
def test_lengths(length, name):
    assert length_of("a" * length) == name
