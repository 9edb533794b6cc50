import pytest

from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import prepare_pairs
from keras_moe.orchestration import read_pairs
from keras_moe.orchestration import read_records

pytestmark = pytest.mark.tfx

PAIRS = {f"question {n}": f"answer {n % 50}" for n in range(100)}
SHARES = (0.4, 0.2, 0.2, 0.2)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = "".join(f"{n},{s},{t}\r\n" for n, (s, t) in enumerate(PAIRS.items()))
    path.write_text(f"number,source,target\r\n{rows}", newline="")
    return path


def test_pairs_become_examples(path, tmp_path):
    assert read_pairs(path).targets == PAIRS
    span = prepare_pairs(path, tmp_path / "data", SHARES)
    found = {
        example["source"][0]: example["target"][0]
        for split in SPLITS
        for example in read_records(span.records(split))
    }
    assert found == PAIRS


def test_nothing_is_written_of_what_is_refused(path, tmp_path):
    def check(targets):
        assert targets == PAIRS
        raise ValueError("too long")

    for options, words in (
        ({"check": check}, "too long"),
        ({"unique_targets": True}, "line 52: .* stands in line 2"),
    ):
        with pytest.raises(ValueError, match=words):
            prepare_pairs(path, tmp_path / "data", SHARES, **options)
    assert not list((tmp_path / "data").rglob("*.gz"))
