"""Programs that the frontier benchmark times answer as their models do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.frontier import latency
from keras_moe.calibration import DeferralRule
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text


@pytest.fixture(scope="module")
def stages():
    made = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        made.append(
            SwitchTransformer.from_preset(
                "switch_tiny",
                num_encoder_layers=1,
                num_decoder_layers=1,
                num_experts=0,
            )
        )
    return made


def test_a_cascade_of_constants_answers_as_its_stages(stages):
    rule = DeferralRule(kind="tokens")
    ids = np.zeros([4, latency.LENGTH], "int32")
    ids[:, :5] = np.random.default_rng(0).integers(2, 30, [4, 5])
    small, large = (
        stage.generate(ids, text.MAX_PHONEMES)["token_ids"].numpy()
        for stage in stages
    )
    assert (small != large).any(axis=1).all()
    scores = np.sort(rule.scores(stages[0].generate(ids, text.MAX_PHONEMES)))
    # Two words are deferred.
    program = latency.compile_cascade(stages, rule, float(scores[1:3].mean()))
    assert not program.get_concrete_function().captured_inputs
    asked = 0
    for row in range(4):
        answer = program(tf.constant(ids[row : row + 1]))
        stage = int(answer["stage"][0])
        wanted = large if stage else small
        np.testing.assert_array_equal(answer["token_ids"][0], wanted[row])
        asked += stage
    assert asked == 2


def test_each_word_has_its_median_over_the_rounds(monkeypatch):
    clock = iter(np.cumsum([0.0, 1.0, 0.0, 3.0] * 20))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(
        latency,
        "seconds_in_turns",
        lambda turns, rounds, warm_up: [
            turn() for turn in turns.values() for _ in range(rounds + warm_up)
        ],
    )
    rows = [tf.constant([[1]]), tf.constant([[2]])]
    found = latency.word_milliseconds(
        {"program": lambda row: {"token_ids": row}}, rows, rounds=3
    )
    np.testing.assert_allclose(found["program"], [1000.0, 3000.0])


def test_words_that_are_too_long_are_not_timed():
    entries = [("a" * letters, ("AH0",)) for letters in (3, 20, 15, 16, 4)]
    places = latency.timed_words(entries, 3)
    assert places.tolist() == [0, 2, 4]
    rows = latency.rows_of(entries, places)
    assert [tuple(row.shape) for row in rows] == [(1, latency.LENGTH)] * 3
