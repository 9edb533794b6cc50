import functools
import types

import pytest
import tensorflow as tf

from pipelines.g2p.modules import text
from pipelines.g2p.modules import transformed
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.preprocessing import preprocessing_fn
from pipelines.g2p.modules.transformed import stream_pairs


def write(path, words, pronunciations):
    """Writes what Transform would write."""
    features = preprocessing_fn(
        {
            "word": tf.constant(words)[:, tf.newaxis],
            "pronunciations": tf.constant(pronunciations)[:, tf.newaxis],
        },
        {"keep_stress": False},
    )
    source = features["encoder_token_ids"].numpy()
    targets = tf.RaggedTensor.from_sparse(features["target_token_ids"])

    def ids(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row, target in zip(source, targets.to_list(), strict=True):
            example = tf.train.Example(
                features=tf.train.Features(
                    feature={
                        "encoder_token_ids": ids(row),
                        "target_token_ids": ids(target),
                    }
                )
            )
            writer.write(example.SerializeToString())


def content(patterns, seed=None):
    """The pairs of a stream, as words of letters and phonemes."""
    seen = []
    for source, target in stream_pairs(patterns, seed):
        assert source.dtype == target.dtype == tf.int32
        assert source.shape[1:] == [text.SOURCE_LENGTH]
        assert target.shape[1:] == [text.MAX_PHONEMES]
        spoken = text.decode_phonemes(target).numpy()
        for ids, phonemes in zip(source.numpy(), spoken, strict=True):
            letters = ids[ids >= text.FIRST_ID] - text.FIRST_ID
            word = "".join(text.ALPHABET[letter] for letter in letters)
            seen.append((word, phonemes.decode()))
    return seen


def test_one_row_a_pronunciation(tmp_path):
    write(
        tmp_path / "part-0.gz",
        ["read", "", "a", "tea"],
        ["R EH D|R IY D", "AH", "AH|EY|AE", "T IY"],
    )
    # The empty word was refused.
    assert content([str(tmp_path / "*")]) == [
        ("read", "R EH D"),
        ("read", "R IY D"),
        ("a", "AH"),
        ("a", "EY"),
        ("a", "AE"),
        ("tea", "T IY"),
    ]
    for _, target in stream_pairs([str(tmp_path / "*")]):
        ends = target.numpy() == text.END_ID
        assert (ends.sum(axis=1) == 1).all()


def test_a_pronunciation_is_cut_where_there_is_no_room(tmp_path):
    write(tmp_path / "part-0.gz", ["long"], [" ".join(["AH"] * 40)])
    ((_, spoken),) = content([str(tmp_path / "*")])
    assert spoken == " ".join(["AH"] * text.MAX_PHONEMES)


def words(number, first=0):
    letters = text.ALPHABET[:26]
    return [
        letters[i // 676 % 26] + letters[i // 26 % 26] + letters[i % 26]
        for i in range(first, first + number)
    ]


@pytest.mark.parametrize(
    "shards", [1, 3, pytest.param(11, marks=pytest.mark.large)]
)
def test_shards_are_read_in_turns_in_an_order_of_the_seed(tmp_path, shards):
    expected = []
    for shard in range(shards):
        names = words(100, 100 * shard)
        write(tmp_path / f"part-{shard:02}.gz", names, ["AH|B"] * 100)
        expected += [(word, p) for word in names for p in ("AH", "B")]
    patterns = [str(tmp_path / "part-*")]
    orders = [content(patterns, seed) for seed in (None, [0, 1], [0, 2])]
    assert all(sorted(order) == sorted(expected) for order in orders)
    assert content(patterns, [0, 1]) == orders[1]
    assert (orders[1] == orders[2]) == (shards == 1)
    # The second shard begins before the first ends.
    assert (orders[0] == expected) == (shards == 1)


def test_chunks_join_without_a_seam(tmp_path, monkeypatch):
    write(tmp_path / "part-0.gz", words(50), ["AH|B"] * 50)
    whole = content([str(tmp_path / "*")])
    monkeypatch.setattr(transformed, "_RECORDS_AT_ONCE", 7)
    assert content([str(tmp_path / "*")]) == whole
    assert len(list(stream_pairs([str(tmp_path / "*")]))) == 8


@pytest.mark.parametrize(
    "names", [[], [""], ["", "x" * 40]], ids=["empty", "refused", "too long"]
)
def test_a_file_without_a_pair(tmp_path, names):
    write(tmp_path / "part-0.gz", ["a"], ["AH"])
    if names:
        write(tmp_path / "part-1.gz", names, ["AH"] * len(names))
    else:
        with tf.io.TFRecordWriter(str(tmp_path / "part-1.gz"), "GZIP"):
            pass
    assert content([str(tmp_path / "part-*")]) == [("a", "AH")]
    assert content([str(tmp_path / "part-1*")]) == []


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="No transformed examples"):
        stream_pairs([str(tmp_path / "*")])


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "part-0.gz"
    write(path, words(500), ["AH|B"] * 500)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"part-0\.gz .* truncated or corrupt"):
        stream_pairs([str(path)])


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "part-0.gz"
    write(path, words(500), ["AH|B"] * 500)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"part-0\.gz .* truncated or corrupt"):
        stream_pairs([str(path)])


def test_files_feed_training(tmp_path):
    for shard in range(3):
        names = words(30, 30 * shard)
        write(tmp_path / f"part-{shard}.gz", names, ["AH|B"] * 30)
    pairs = functools.partial(stream_pairs, [str(tmp_path / "*")])
    config = types.SimpleNamespace(pad_id=text.PAD_ID, start_id=text.PAD_ID)
    batches = training_batches(pairs, config, 16, 0)

    def epoch(number):
        return [
            (*x.numpy().tolist(), *y.numpy().tolist())
            for inputs, labels in batches(number)
            for x, y in zip(inputs["encoder_token_ids"], labels, strict=True)
        ]

    first, second = epoch(0), epoch(1)
    assert len(first) == 180 and len(set(first)) == 180
    assert first == epoch(0) and first != second
    assert sorted(first) == sorted(second)
