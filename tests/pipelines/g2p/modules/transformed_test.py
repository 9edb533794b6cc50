import numpy as np
import pytest
import tensorflow as tf

from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import preprocessing_fn
from pipelines.g2p.modules.transformed import read_pairs


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


def test_one_row_a_pronunciation(tmp_path):
    write(
        tmp_path / "part-0.gz",
        ["read", "", "a"],
        ["R EH D|R IY D", "AH", "AH|EY|AE"],
    )
    source, target = read_pairs([str(tmp_path / "*")])
    assert source.dtype == target.dtype == np.int32
    assert source.shape == (5, text.SOURCE_LENGTH)
    assert target.shape == (5, text.MAX_PHONEMES)
    spoken = text.decode_phonemes(tf.constant(target)).numpy().tolist()
    # The empty word was refused.
    assert spoken == [b"R EH D", b"R IY D", b"AH", b"EY", b"AE"]
    assert (source[0] == source[1]).all()
    assert (source[2] == source[4]).all()
    assert (target.max(axis=1) < text.target_vocabulary_size()).all()
    assert ((target == text.END_ID).sum(axis=1) == 1).all()


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="No transformed examples"):
        read_pairs([str(tmp_path / "*")])
