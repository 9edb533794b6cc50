import numpy as np
import pytest
import tensorflow as tf

from keras_moe.components import CalibrationTaskArgs
from keras_moe.components import TextColumn
from keras_moe.components import TextSearch
from keras_moe.components import TextToText
from keras_moe.components.texts import _read_examples
from keras_moe.orchestration import text_example
from keras_moe.orchestration import write_records

pytestmark = pytest.mark.tfx

TASK = TextToText(
    TextColumn("source", "character", 4),
    {"name": "target", "unit": "word", "max_length": 2},
)


def ids_example(source, target):
    def feature(ids):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=ids))

    features = {"source": feature(source), "target": feature(target)}
    return tf.train.Example(features=tf.train.Features(feature=features))


def test_batches_of_ids(tmp_path):
    rows = [
        ([3, 1, 0, 0, 0], [5, 1, 0]),
        ([4, 4, 1, 0, 0], [6, 1, 0]),
        ([0, 0, 0, 0, 0], [1, 0, 0]),  # a source that was refused
    ]
    path = tmp_path / "examples.gz"
    write_records(path, (ids_example(*row) for row in rows))
    batches = TASK.batches([str(path)], batch_size=3, seed=1)
    inputs, target = next(iter(batches(0)))
    # As long as the longest row, and the decoder sees what came before.
    assert inputs["encoder_token_ids"].shape == (3, 3)
    assert target.shape == (3, 2)
    before = inputs["decoder_token_ids"].numpy()
    np.testing.assert_array_equal(before[:, 0], 0)
    np.testing.assert_array_equal(before[:, 1], target[:, 0])
    again, _ = next(iter(batches(0)))
    np.testing.assert_array_equal(again["decoder_token_ids"], before)
    # A pass has no end, and a later epoch has another order.
    batches = TASK.batches([str(path)], batch_size=1, seed=1)
    orders = {
        tuple(y.numpy()[0, 0] for _, y in batches(epoch).take(4))
        for epoch in range(5)
    }
    assert len(orders) > 1


def test_rows_of_like_length_come_together(tmp_path):
    rows = [
        ([number] * size + [1] + [0] * (4 - size), [4, 1, 0])
        for number, size in enumerate([1, 4] * 8, start=3)
    ]
    path = tmp_path / "examples.gz"
    write_records(path, (ids_example(*row) for row in rows))
    batches = TASK.batches([str(path)], batch_size=4)
    sources = [
        inputs["encoder_token_ids"].numpy()
        for epoch in range(4)
        for inputs, _ in batches(epoch).take(4)
    ]
    assert all((ids > 0).all() for ids in sources)
    assert {ids.shape for ids in sources} == {(4, 2), (4, 5)}
    seen = {number for ids in sources for number in ids[:, 0]}
    assert seen == {source[0] for source, _ in rows}
    held_out = TASK.validation_batches([str(path)], batch_size=5)
    numbers = [
        number
        for inputs, _ in held_out
        for number in inputs["encoder_token_ids"].numpy()[:, 0]
    ]
    assert sorted(numbers) == sorted(seen)


def test_what_is_missing(tmp_path):
    nothing = [str(tmp_path / "*")]
    with pytest.raises(FileNotFoundError, match="No examples match"):
        TASK.batches(nothing, 2)
    args = CalibrationTaskArgs((), (), nothing, None, 3, {})
    with pytest.raises(ValueError, match="Received: transform_graph=None"):
        TASK.exit_task(args)


def test_an_empty_split_is_named(tmp_path):
    path = tmp_path / "none.gz"
    write_records(path, [])
    files = [str(path)]
    for read in (
        lambda: TASK.batches(files, 2),
        lambda: TASK.validation_batches(files, 2),
        lambda: TextSearch().batches(files, 2),
    ):
        with pytest.raises(ValueError, match=r"none in .*none\.gz"):
            read()


def test_reads_more_than_are_parsed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(_read_examples, "_AT_ONCE", 2)
    path = tmp_path / "examples.gz"
    write_records(
        path, (text_example(source=f"q{n}", target=f"a{n}") for n in range(5))
    )
    texts = TextSearch().texts([str(path)], "target").numpy().tolist()
    assert texts == [f"a{n}".encode() for n in range(5)]


def test_batches_of_a_search(tmp_path):
    rows = [(f"question {n}", f"answer {n}") for n in range(5)]
    path = tmp_path / "examples.gz"
    write_records(path, (text_example(source=s, target=t) for s, t in rows))
    task = TextSearch()
    texts = task.texts([str(path)]).numpy().tolist()
    columns = zip(*rows, strict=True)
    assert texts == [text.encode() for column in columns for text in column]
    inputs, keys = next(iter(task.batches([str(path)], batch_size=7)(0)))
    columns = (inputs["query"], inputs["document"], keys)
    seen = {}
    for query, document, key in zip(*map(np.array, columns), strict=True):
        assert dict(rows)[query.decode()] == document.decode()
        # A pair that comes twice is no negative of itself.
        assert seen.setdefault(query, key) == key
    assert len(seen) == 5 and len(set(seen.values())) == 5
