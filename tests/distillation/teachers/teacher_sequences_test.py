"""A teacher's own answers."""

import types

import numpy as np
import pytest

from keras_moe.distillation import teacher_sequences
from keras_moe.generation import BeamSearch
from keras_moe.models import SwitchTransformer

LENGTH = 4


class Echo:
    """Answers with the source, and its sum for a score."""

    config = types.SimpleNamespace(pad_id=0, end_id=1, start_id=0)

    def __init__(self):
        self.calls = []

    def generate(self, token_ids, max_length, strategy=None):
        self.calls.append((len(token_ids), max_length, strategy))
        return {
            "token_ids": token_ids[:, :max_length],
            "log_probability": -token_ids.sum(1).astype("float32"),
        }


def sources(rows=5):
    ids = np.arange(rows)[:, None] + np.array([[5, 6, 7, 8]])
    ids[::2, 2:] = [1, 0]
    return ids


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_answers_keep_their_order(batch_size):
    ids = sources()
    answers = teacher_sequences(
        Echo(), ids, max_length=LENGTH, batch_size=batch_size, verbose=0
    )
    np.testing.assert_array_equal(answers.token_ids, ids)
    np.testing.assert_array_equal(answers.log_probability, -ids.sum(1))
    assert answers.ended.tolist() == [True, False, True, False, True]


def test_the_strategy_is_the_teachers():
    teacher, strategy = Echo(), BeamSearch(num_beams=2)
    teacher_sequences(
        teacher, sources(), 3, strategy=strategy, batch_size=2, verbose=0
    )
    assert teacher.calls == [(size, 3, strategy) for size in (2, 2, 1)]


@pytest.mark.parametrize("strategy", [None, BeamSearch(num_beams=2)])
def test_equals_one_call_of_the_model(strategy):
    teacher = SwitchTransformer.from_preset(
        "switch_tiny",
        num_experts=0,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    ids = np.random.randint(2, 32, (4, LENGTH))
    expected = teacher.generate(ids, max_length=LENGTH, strategy=strategy)
    answers = teacher_sequences(
        teacher, ids, LENGTH, strategy=strategy, batch_size=2, verbose=0
    )
    np.testing.assert_array_equal(answers.token_ids, expected["token_ids"])
    np.testing.assert_allclose(
        answers.log_probability, expected["log_probability"], rtol=1e-5
    )
    assert answers.token_ids.dtype == "int32"
    assert answers.log_probability.dtype == "float32"
    np.testing.assert_array_equal(
        answers.ended, [1 in row for row in answers.token_ids.tolist()]
    )


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (sources(), {"max_length": 0}, "`max_length` must be a positive"),
        (sources(), {"batch_size": 0}, "`batch_size` must be a positive"),
        (sources(0), {}, r"at least one row.*\(0, 4\)"),
        (sources()[0], {}, r"\(n, source_length\).*\(4,\)"),
    ],
)
def test_arguments_are_checked(ids, options, message):
    teacher = Echo()
    with pytest.raises(ValueError, match=message):
        teacher_sequences(
            teacher, ids, **{"max_length": 3, "verbose": 0, **options}
        )
    assert teacher.calls == []
