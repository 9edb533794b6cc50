import pytest

from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import read_records
from keras_moe.orchestration import split_of
from pipelines.search.configs import DataConfig
from pipelines.search.data.prepare import prepare_synsets
from pipelines.search.data.wordnet import read_wordnet
from tests.pipelines.search.tiny_wordnet import many_entries
from tests.pipelines.search.tiny_wordnet import write_wordnet

pytestmark = pytest.mark.tfx


@pytest.fixture
def config(tmp_path):
    write_wordnet(tmp_path / "wordnet", many_entries(300))
    return DataConfig(wordnet=tmp_path / "wordnet")


def test_a_synset_is_one_example_in_one_split(config, tmp_path):
    span = prepare_synsets(config, tmp_path / "data")
    synsets = {each.identifier: each for each in read_wordnet(config.wordnet)}
    found = {}
    for split in SPLITS:
        for example in read_records(span.records(split)):
            (name,) = example["synset"]
            assert split_of(name) == split
            assert name not in found
            found[name] = example
    assert found.keys() == synsets.keys()
    for name, example in found.items():
        assert example["gloss"] == [synsets[name].gloss]
        assert example["document"] == [synsets[name].document]
        assert example["lemmas"] == list(synsets[name].lemmas)
        # What is searched does not give the query away.
        assert example["gloss"][0] not in example["document"][0]


def test_another_wordnet_is_another_span(config, tmp_path):
    first = prepare_synsets(config, tmp_path / "data")
    assert prepare_synsets(config, tmp_path / "data") == first
    write_wordnet(tmp_path / "wordnet", many_entries(301))
    second = prepare_synsets(config, tmp_path / "data")
    assert (first.number, second.number) == (1, 2)
    assert sum(second.counts.values()) == sum(first.counts.values()) + 1


def test_a_sample(config, tmp_path):
    small = config.model_copy(update={"max_synsets": 120})
    span = prepare_synsets(small, tmp_path / "data")
    assert sum(span.counts.values()) == 120


def test_a_folder_without_wordnet(tmp_path):
    config = DataConfig(wordnet=tmp_path)
    with pytest.raises(FileNotFoundError, match="data.noun does not exist"):
        prepare_synsets(config, tmp_path / "data")
