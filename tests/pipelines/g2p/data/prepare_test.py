import itertools

import pytest

from pipelines.g2p.data import prepare as prepare_lib
from pipelines.g2p.data import splits
from pipelines.g2p.data.prepare import prepare
from pipelines.g2p.data.prepare import records_path
from pipelines.g2p.data.records import read_records
from pipelines.g2p.data.records import verify_records

WORDS = {f"{a}{b}": ("AH B|B AH") for a in "abcdefghij" for b in "klmnopqrst"}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "words.csv"
    rows = [f"{word},AH B\n{word},B AH1\n" for word in WORDS]
    path.write_text("word,pronunciation\n" + "".join(rows))
    return path


@pytest.fixture
def prepared(source, tmp_path):
    directory = tmp_path / "data"
    return directory, prepare(source, directory)


def times(directory):
    return {p: p.stat().st_mtime_ns for p in directory.rglob("*.gz")}


def test_every_word_is_in_its_split_with_all_its_pronunciations(prepared):
    directory, counts = prepared
    assert sum(counts.values()) == len(WORDS)
    for split in splits.SPLITS:
        entries = read_records(records_path(directory, split))
        assert len(entries) == counts[split]
        for word, listed in entries:
            assert splits.split_of(word) == split
            assert listed == ("AH B", "B AH")


def test_records_are_in_a_random_order_always_the_same(prepared, tmp_path):
    directory, _ = prepared
    path = records_path(directory, "train")
    words = [word for word, _ in read_records(path)]
    rises = sum(a < b for a, b in itertools.pairwise(words)) / len(words)
    assert 0.3 < rises < 0.7
    # Other words change nothing of the order of these.
    source = tmp_path / "fewer.csv"
    fewer = sorted(words)[::2]
    rows = [
        f"{word},AH B\n" for word in [*fewer, *set(WORDS).difference(words)]
    ]
    source.write_text("word,pronunciation\n" + "".join(rows))
    prepare(source, tmp_path / "fewer")
    again = read_records(records_path(tmp_path / "fewer", "train"))
    kept = set(fewer)
    assert [w for w, _ in again] == [w for w in words if w in kept]


def test_unchanged_input_is_not_written_again(prepared, source):
    directory, counts = prepared
    before = times(directory)
    assert prepare(source, directory) == counts
    assert times(directory) == before


@pytest.mark.parametrize("options", [{"keep_stress": True}, {"max_words": 90}])
def test_a_changed_option_writes_again(prepared, source, options):
    directory, _ = prepared
    if "keep_stress" in options:
        source.write_text(source.read_text().replace("AH ", "AH0 "))
    before = times(directory)
    counts = prepare(source, directory, **options)
    assert times(directory) != before
    assert sum(counts.values()) == options.get("max_words", len(WORDS))


def test_an_interrupted_run_starts_over(source, tmp_path, monkeypatch):
    directory = tmp_path / "data"
    write = prepare_lib.write_records

    def fail_at_test(path, entries):
        if path.parent.name == "test":
            raise KeyboardInterrupt
        return write(path, entries)

    monkeypatch.setattr(prepare_lib, "write_records", fail_at_test)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, directory)
    monkeypatch.undo()
    assert sum(prepare(source, directory).values()) == len(WORDS)


def test_a_truncated_file_is_named_before_anything_runs(prepared, source):
    directory, counts = prepared
    path = records_path(directory, "train")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"of \d+ records|Received: \d+") as e:
        prepare(source, directory)
    assert str(path) in str(e.value)
    # What the message advises works.
    path.unlink()
    assert prepare(source, directory) == counts


def test_a_corrupt_file_is_named(prepared):
    directory, counts = prepared
    path = records_path(directory, "train")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated"):
        verify_records(path, counts["train"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.gz is missing"):
        verify_records(tmp_path / "nothing.gz", 1)


def test_a_dictionary_too_small_to_split(tmp_path):
    source = tmp_path / "words.csv"
    source.write_text("word,pronunciation\na,AH\n")
    with pytest.raises(ValueError, match="would have no word"):
        prepare(source, tmp_path / "data")


def test_a_dictionary_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prepare(tmp_path / "none.csv", tmp_path / "data")


def test_a_dictionary_that_grew_is_the_next_span(source, tmp_path):
    data = tmp_path / "data"
    span, counts = prepare_lib.prepare_span(source, data)
    assert (span, sum(counts.values())) == (1, len(WORDS))
    first = times(data)
    small = source.read_text()
    source.write_text(small + "zebra,B AH\n")
    span, counts = prepare_lib.prepare_span(source, data)
    assert (span, sum(counts.values())) == (2, len(WORDS) + 1)
    # The first is as it was, and found again.
    source.write_text(small)
    assert prepare_lib.prepare_span(source, data)[0] == 1
    assert first.items() <= times(data).items()


def test_the_number_of_an_interrupted_span_is_free(source, tmp_path):
    data = tmp_path / "data"
    left = prepare_lib.span_directory(data, 1)
    left.mkdir(parents=True)
    assert prepare_lib.prepare_span(source, data)[0] == 1
    (left / "manifest.json").unlink()
    assert prepare_lib.prepare_span(source, data)[0] == 1


def test_records_say_what_evaluation_tells_apart(prepared):
    import tensorflow as tf

    path = records_path(prepared[0], "train")
    record = next(iter(tf.data.TFRecordDataset(str(path), "GZIP")))
    features = tf.train.Example.FromString(record.numpy()).features.feature
    word = features["word"].bytes_list.value[0].decode()
    letters = [v.decode() for v in features["letters"].bytes_list.value]
    assert letters == sorted(set(word))
    assert features["word_length"].bytes_list.value == [b"1-4"]


@pytest.mark.parametrize(
    ("length", "name"),
    [
        (1, "1-4"),
        (4, "1-4"),
        (5, "5-7"),
        (10, "8-10"),
        (11, "11+"),
        (32, "11+"),
    ],
)
def test_lengths(length, name):
    from pipelines.g2p.data.records import length_of

    assert length_of("a" * length) == name
