import itertools

import pytest

from pipelines.search.configs import DataConfig
from pipelines.search.data.prepare import prepare_synsets
from pipelines.search.modules.batches import read_glosses
from pipelines.search.modules.batches import training_batches
from tests.pipelines.search.tiny_wordnet import Entry
from tests.pipelines.search.tiny_wordnet import many_entries
from tests.pipelines.search.tiny_wordnet import write_wordnet

pytestmark = pytest.mark.tfx


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    entries = [
        *many_entries(250),
        *(Entry("n", ("Bank", "shore"), f"the edge, {i}") for i in range(40)),
        *(Entry("n", ("bank",), f"a house of money, {i}") for i in range(40)),
        Entry("n", tuple(f"name{i}" for i in range(30)), "of many names"),
    ]
    write_wordnet(folder / "wordnet", entries)
    config = DataConfig(
        wordnet=folder / "wordnet", fractions=(0.97, 0.01, 0.01, 0.01)
    )
    return prepare_synsets(config, folder / "data").records("train")


def read(path, seed=0, epoch=0):
    return [
        (x["query"].numpy().tolist(), x["document"].numpy().tolist(), y.numpy())
        for x, y in training_batches([str(path)], 16, seed, epoch)
    ]


def test_each_gloss_stands_beside_its_words(path):
    batches = read(path)
    glosses = set(itertools.chain.from_iterable(b[0] for b in batches))
    assert glosses <= set(read_glosses([str(path)]).numpy().tolist())
    assert len(glosses) == 16 * len(batches)
    for queries, documents, keys in batches:
        assert len(queries) == len(documents) == len(keys) == 16
        for query, document in zip(queries, documents, strict=True):
            if query.startswith(b"a house of money"):
                assert document == b"bank"


def test_synsets_that_share_a_word_share_a_key(path):
    keys = {}
    for queries, _, rows in read(path):
        for query, row in zip(queries, rows, strict=True):
            known = {int(key) for key in row if key >= 0}
            assert row.shape == (4,)
            keys[query.decode().partition(",")[0]] = known
    # Whatever the case of a letter.
    assert len(keys["a house of money"]) == 1
    assert len(keys["the edge"]) == 2
    assert keys["a house of money"] < keys["the edge"]
    assert len(keys["of many names"]) == 4
    others = {key for k in keys if k.startswith("a red") for key in keys[k]}
    assert not others & keys["the edge"]


def test_the_order_is_of_the_seed_and_the_pass(path):
    first = [queries for queries, _, _ in read(path)]
    assert first == [queries for queries, _, _ in read(path)]
    for other in ({"epoch": 1}, {"seed": 1}):
        again = [queries for queries, _, _ in read(path, **other)]
        assert again != first
        assert len(again) == len(first)
