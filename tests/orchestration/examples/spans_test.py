import itertools

import pytest

from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import Span
from keras_moe.orchestration import prepare_span
from keras_moe.orchestration import read_records
from keras_moe.orchestration import span_of
from keras_moe.orchestration import split_of
from keras_moe.orchestration import text_example
from keras_moe.orchestration import verify_records
from keras_moe.orchestration.examples import _spans

pytestmark = pytest.mark.tfx

WORDS = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]


def entries_of(source):
    return {word: word.upper() for word in source.read_text().split()}


def to_example(word, loud):
    return text_example(word=word, all=[word, loud])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    return path


def prepare(source, data, **options):
    return prepare_span(
        data, [source], lambda: entries_of(source), to_example, **options
    )


@pytest.fixture
def span(source, tmp_path):
    return prepare(source, tmp_path / "data")


def words_in(span, split):
    return [each["word"][0] for each in read_records(span.records(split))]


def times(directory):
    return {p: p.stat().st_mtime_ns for p in directory.rglob("*.gz")}


def test_each_entry_is_in_its_split(span):
    assert sum(span.counts.values()) == len(WORDS)
    assert str(span).startswith(f"Span 1: {span.counts['train']} train, ")
    for split in SPLITS:
        entries = list(read_records(span.records(split)))
        assert len(entries) == span.counts[split]
        for entry in entries:
            (word,) = entry["word"]
            assert split_of(word) == split
            assert entry["all"] == [word, word.upper()]


def test_records_are_in_a_random_order_always_the_same(span, tmp_path):
    words = words_in(span, "train")
    rises = sum(a < b for a, b in itertools.pairwise(words)) / len(words)
    assert 0.3 < rises < 0.7
    # Other entries change nothing of the order of these.
    source = tmp_path / "fewer.txt"
    kept = set(sorted(words)[::2])
    source.write_text("\n".join({*kept, *set(WORDS).difference(words)}))
    again = prepare(source, tmp_path / "fewer")
    assert words_in(again, "train") == [w for w in words if w in kept]


def test_unchanged_sources_are_not_written_again(span, source, tmp_path):
    before = times(span.directory)

    def read():
        raise AssertionError("nothing is to be read")

    again = prepare_span(tmp_path / "data", [source], read, to_example)
    assert again == span == span_of(tmp_path / "data", 1)
    assert times(span.directory) == before


@pytest.mark.parametrize(
    "options",
    [
        {"options": {"loud": True}},
        {"max_entries": 90},
        {"fractions": (0.7, 0.1, 0.1, 0.1)},
    ],
)
def test_a_changed_option_is_another_span(span, source, tmp_path, options):
    before = times(span.directory)
    other = prepare(source, tmp_path / "data", **options)
    assert other.number == 2
    assert sum(other.counts.values()) == options.get("max_entries", len(WORDS))
    assert times(span.directory) == before


def test_an_interrupted_run_starts_over(source, tmp_path, monkeypatch):
    write = _spans.write_records

    def fail_at_test(path, examples):
        if path.parent.name == "test":
            raise KeyboardInterrupt
        return write(path, examples)

    monkeypatch.setattr(_spans, "write_records", fail_at_test)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "data")
    monkeypatch.undo()
    assert span_of(tmp_path / "data", 1).counts == {}
    span = prepare(source, tmp_path / "data")
    assert (span.number, sum(span.counts.values())) == (1, len(WORDS))


def test_a_truncated_file_is_named_before_anything_runs(span, source, tmp_path):
    path = span.records("train")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"of \d+ records|Received: \d+") as e:
        prepare(source, tmp_path / "data")
    assert str(path) in str(e.value)
    # What the message advises works.
    path.unlink()
    assert prepare(source, tmp_path / "data") == span


def test_a_corrupt_file_is_named(span):
    path = span.records("train")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated"):
        verify_records(path, span.counts["train"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.gz is missing"):
        verify_records(tmp_path / "nothing.gz", 1)


def test_too_few_entries_to_split(tmp_path):
    source = tmp_path / "words.txt"
    source.write_text("one")
    with pytest.raises(ValueError, match="would have no example"):
        prepare(source, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.gz"))


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.txt does not exist"):
        prepare(tmp_path / "none.txt", tmp_path / "data")


def test_sources_that_grew_are_the_next_span(span, source, tmp_path):
    data = tmp_path / "data"
    first = times(data)
    small = source.read_text()
    source.write_text(small + "\nzebra")
    second = prepare(source, data)
    assert (second.number, sum(second.counts.values())) == (2, len(WORDS) + 1)
    # The first is as it was, and found again.
    source.write_text(small)
    assert prepare(source, data) == span
    assert first.items() <= times(data).items()


def test_the_number_of_an_interrupted_span_is_free(source, tmp_path):
    data = tmp_path / "data"
    (data / "span-1").mkdir(parents=True)
    assert prepare(source, data).number == 1
    (data / "span-1" / "manifest.json").unlink()
    assert prepare(source, data).number == 1


def test_a_span_that_was_never_prepared(tmp_path):
    assert span_of(tmp_path, 7) == Span(7, tmp_path / "span-7", {})
