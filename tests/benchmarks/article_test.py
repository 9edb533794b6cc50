"""The pieces of the table, of sizes at which they tell nothing."""

import json

import numpy as np
import pytest

from benchmarks.article import __main__ as article
from benchmarks.article import cue
from benchmarks.article import deep_autoencoder
from benchmarks.article import masked_tokens
from benchmarks.article import replay
from benchmarks.article import tree
from benchmarks.article.digits import Part
from benchmarks.article.retrained import Retrained
from benchmarks.article.row import Row


@pytest.mark.parametrize(
    ("value", "more_is_better", "verdict"),
    [
        (1.0, False, "gain"),
        (1.0, True, "no gain"),
        (3.0, False, "no gain"),
        (3.0, True, "gain"),
        (2.0, True, "equal"),
        (float("nan"), True, "no gain"),
        (float("nan"), False, "no gain"),
    ],
)
def test_a_row_says_whether_it_is_a_gain(value, more_is_better, verdict):
    row = Row("system", "measured", value, "baseline", 2.0, more_is_better)
    assert row.verdict == verdict
    assert json.loads(json.dumps(row.as_record()))["verdict"] == verdict


def test_systems_of_long_memory_have_the_radius_that_was_asked_for(
    monkeypatch,
):
    monkeypatch.setattr(replay, "_STEPS", 50)
    matrices, states = replay._trajectories(0.97)
    radii = np.abs(np.linalg.eigvals(matrices)).max(-1)
    np.testing.assert_allclose(radii, 0.97)
    assert states.shape == (len(matrices), 51, 5)


def test_the_chain_is_learned_from_enough_updates(monkeypatch):
    monkeypatch.setattr(replay, "_ROUNDS", 40)
    found = replay.chain()
    assert found["introspective_error"] < 1e-6
    assert found["uniform_error"] < 0.1


@pytest.mark.usefixtures("functions_run_eagerly")
def test_a_training_that_starts_anew_is_the_same():
    def make():
        return deep_autoencoder._model()

    import keras

    runs = Retrained(make, keras.optimizers.Adam(), loss="mse")
    x = np.random.rand(20, 64)
    first = runs.fit(3, 0.01, x, x, epochs=2)
    runs.fit(4, 0.1, x, x)
    assert runs.fit(3, 0.01, x, x, epochs=2) == first


def test_a_cue_is_right_as_often_as_asked_for():
    part = Part(np.zeros((5000, 64), "float32"), np.arange(5000) % 10)
    for share in (0.0, 0.5, 1.0):
        found = cue._with_cue(part, share, 0).images[:, 64:].argmax(1)
        right = np.mean(found == part.labels)
        np.testing.assert_allclose(right, share + (1 - share) / 10, atol=0.02)


def test_means_of_clusters_are_those_of_their_members():
    x, y = tree._data(3, 0)
    cluster = np.random.default_rng(0).integers(0, 8, (3, 64))
    for row in range(3):
        for token in range(0, 64, 7):
            same = cluster[row] == cluster[row, token]
            mean = x[row, same, -1].mean()
            ratio = y[row, token, 0] / mean
            known = y[0, 0, 0] / first(x, cluster)
            np.testing.assert_allclose(ratio, known, rtol=1e-4)


def first(x, cluster):
    return x[0, cluster[0] == cluster[0, 0], -1].mean()


@pytest.mark.usefixtures("functions_run_eagerly")
def test_masked_tokens_are_hidden_and_an_encoder_keeps_no_slots():
    task = masked_tokens.Task(steps=3)
    masked, ids, hidden = (np.asarray(each) for each in task.parts[1])
    assert (masked[hidden] == 32).all() and (ids < 32).all()
    np.testing.assert_array_equal(masked[~hidden], ids[~hidden])
    contestant = masked_tokens.Contestant("relative_clip", task)
    losses = [contestant.losses(1.0, 0.1, 5) for _ in range(2)]
    assert losses[0] == losses[1] and np.isfinite(losses[0]).all()
    own, head = contestant.slot_bytes()
    assert own == 0 and head == 2 * 4 * (48 * 32 + 32)


def test_the_table_has_a_row_a_system_and_claims_hold_or_do_not():
    from benchmarks.shared.report import Report

    report = Report("test")
    rows = article._replay_rows(
        report,
        {
            radius: dict.fromkeys(
                ("reverse_error", "forward_error", "random_error"), 1.0
            )
            for radius in (0.97, 0.9)
        },
        {"introspective_error": 1.0, "uniform_error": 2.0},
    )
    assert [row.verdict for row in rows] == ["equal"] * 4 + ["gain"]
    assert not report.holds
    assert report.figures["introspective_error_over_uniform"] == 0.5
