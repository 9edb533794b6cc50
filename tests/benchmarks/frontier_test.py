"""What the frontier benchmark chooses and claims follows from its stages."""

import argparse
import contextlib
import dataclasses
import subprocess
from unittest import mock

import numpy as np
import pytest

from benchmarks.frontier import claims
from benchmarks.frontier import measure
from benchmarks.frontier import pictures
from benchmarks.frontier import systems
from benchmarks.frontier import train
from benchmarks.frontier.answers import Answers
from benchmarks.frontier.systems import Outcome
from benchmarks.frontier.systems import System
from benchmarks.shared.report import Report
from keras_moe.calibration import DeferralRule

WORDS = 10


def answers(edits, log_p=0.0):
    """Returns answers of one token each."""
    ids = np.full([WORDS, 1], 5, "int32")
    log_p = np.broadcast_to(log_p, [WORDS]).astype("float32")[:, None]
    edits = np.broadcast_to(edits, [WORDS])
    return Answers(ids, log_p, edits, np.full(WORDS, 5), np.array(0.0))


@pytest.fixture
def split():
    # The later a word, the less sure is the small stage.
    small = answers(np.arange(WORDS) % 2, -np.arange(WORDS))
    stages = {"small": small, "large": answers(0)}
    places = np.arange(0, WORDS, 3)
    times = {"small": np.full(4, 1.0), "large": np.full(4, 5.0)}
    return systems.Split([stages], places, [times], [0.25])


@pytest.fixture
def deferral(split):
    rule = DeferralRule(kind="tokens")
    return systems.Deferral([{("small", "large"): rule}], split)


def test_a_cascade_is_put_together_from_its_stages(split, deferral):
    found = systems.outcome(System("small", "large", 0.5), split, deferral)
    np.testing.assert_array_equal(found.deferred[0], np.arange(WORDS) > 4.5)
    # Of the words 0 to 4, the small stage errs in 1 and 3.
    assert found.error_rate == pytest.approx(2 / 50)
    # The words 0, 3, 6 and 9 are timed; the last two are deferred.
    np.testing.assert_allclose(found.ms, [[1.25, 1.25, 6.25, 6.25]])
    assert found.deferred_share == 0.5
    alone = systems.outcome(System("small"), split, deferral)
    assert alone.error_rate == pytest.approx(5 / 50)
    assert (alone.median_ms, alone.mean_ms) == (1.0, 1.0)


def test_thresholds_are_of_validation_words(split, deferral):
    harder = {"small": answers(1, -20.0), "large": answers(0)}
    test = systems.Split([harder], split.places, split.ms, split.rule_ms)
    found = systems.outcome(System("small", "large", 0.1), test, deferral)
    assert found.deferred.all()
    assert found.error_rate == 0.0


def test_all_systems_that_adapt_are_candidates():
    found = systems.candidates(["s"], ["t"], ["e at 0.5"], ["large", "s"])
    assert len(set(found)) == len(found)
    assert System("e at 0.5") in found
    families = {system.family for system in found}
    assert families == {
        *("e", "e → large", "e → s"),
        *("s → large", "t → large", "t → s"),
    }


def outcome(errors, ms):
    """Returns what a system does that errs alike in each word."""
    edits = np.full([2, 200], errors, float)
    edits[:, ::2] += 0.02
    return Outcome(
        edits, np.ones_like(edits), edits > 1, np.full([2, 9], float(ms))
    )


A, B, C = (System("small", "large", share) for share in (0.1, 0.2, 0.3))


def test_the_most_accurate_in_time_and_the_fastest_as_good_are_chosen():
    student = outcome(0.2, 1.0)
    found = {A: outcome(0.15, 0.5), B: outcome(0.1, 0.9), C: outcome(0.05, 2.0)}
    choice = claims.choose(student, found, "median_ms")
    assert choice == claims.Choice(accurate=B, fast=A)
    none = claims.choose(outcome(0.01, 0.1), found, "median_ms")
    assert none == claims.Choice(None, None)


def test_a_median_that_leaps_for_other_words_is_not_in_time():
    near = outcome(0.1, 0.5)._replace(ms=np.repeat([[0.5, 9.0]], [51, 49], 1))
    safe = near._replace(ms=np.repeat([[0.5, 9.0]], [80, 20], 1))
    assert near.median_ms == safe.median_ms == 0.5
    assert claims.cost_bound(near, "median_ms") > 5.0
    assert claims.cost_bound(safe, "median_ms") == 0.5
    assert claims.cost_bound(safe, "mean_ms") > safe.mean_ms
    choice = claims.choose(outcome(0.2, 1.0), {A: near}, "median_ms")
    assert choice == claims.Choice(accurate=None, fast=A)
    assert claims.choose(outcome(0.2, 1.0), {B: safe}, "median_ms") == (B, B)


def test_the_best_of_several_families_come_to_the_final():
    kinds = {
        ("one", 0.1): (0.12, 0.4),
        ("one", 0.2): (0.11, 0.7),
        ("two", 0.1): (0.13, 0.6),
        ("three", 0.1): (0.14, 0.5),
        ("four", 0.1): (0.15, 0.3),
        ("slow", 0.1): (0.01, 5.0),
        ("poor", 0.1): (0.30, 0.1),
    }
    found = {
        System(first, "large", share): outcome(*kinds[first, share])
        for first, share in kinds
    }
    finalists = claims.finalists({System("static"): outcome(0.2, 1.0)}, found)
    # Two of fewest errors, then two of least time.
    assert [(each.first, each.share) for each in finalists] == [
        *(("one", 0.2), ("two", 0.1)),
        *(("four", 0.1), ("one", 0.1)),
    ]
    assert claims.finalists({System("a"): outcome(0.01, 0.05)}, found) == []


def test_systems_that_were_run_have_the_times_of_their_runs(split, deferral):
    served, other = (System("small", "large", share) for share in (0.5, 0.2))
    ms = np.full([1, 4], 7.0)
    whole = measure.Whole(split, {served: ms}, differ=0)
    found = whole.outcomes([served, other], deferral)
    np.testing.assert_array_equal(found[served].ms, ms)
    put_together = systems.outcome(other, split, deferral)
    np.testing.assert_array_equal(found[other].ms, put_together.ms)
    for system in (served, other):
        expected = systems.outcome(system, split, deferral)
        np.testing.assert_array_equal(found[system].edits, expected.edits)


def test_what_is_no_longer_so_on_test_words_counts_for_nothing():
    student = outcome(0.19, 1.0)
    choice = claims.Choice(accurate=B, fast=A)
    good = claims.compare(
        student,
        choice,
        {A: outcome(0.19, 0.5), B: outcome(0.09, 1.0)},
        "median_ms",
    )
    assert good.error_reduction == pytest.approx(0.5)
    assert good.interval[0] < 0.5 < good.interval[1]
    assert good.speedup == pytest.approx(2.0)
    late = {A: outcome(0.2, 0.5), B: outcome(0.09, 1.1)}
    missed = claims.compare(student, choice, late, "median_ms")
    assert missed == claims.Comparison(0.0, (0.0, 0.0), 0.0)
    assert not missed.beaten


def test_the_student_that_is_beaten_by_least_decides():
    report = Report("title")
    choice = claims.Choice(A, None)
    interval = (0.0, 0.2)
    claims.report_claims(
        report,
        {"static 1": choice, "static 2": choice},
        {
            "static 1": claims.Comparison(0.2, interval, 1.2),
            "static 2": claims.Comparison(0.05, interval, 3.0),
        },
    )
    found = {claim.name: claim for claim in report.claims}
    assert found["error_reduction_at_latency"].value == 0.05
    assert found["speedup_at_error"].value == 1.2
    # Each student is beaten, one by less error and one by more speed.
    assert found["dominates_static"].value == 1
    assert not report.holds
    assert report.figures["static_1_fast"] == "none"


def test_redraws_are_of_words():
    draw = np.random.default_rng(0)
    edits = draw.integers(0, 3, [2, 500])
    found = Outcome(edits, np.full_like(edits, 6), edits > 9, np.ones([2, 1]))
    rates = claims.redrawn(found)
    per_word = edits.mean(0) / 6
    assert rates.mean() == pytest.approx(found.error_rate, rel=0.01)
    assert rates.std() == pytest.approx(per_word.std() / 500**0.5, rel=0.1)
    low, high = claims.error_interval(found)
    assert low < found.error_rate < high


def test_a_frontier_has_nothing_that_another_beats():
    cheap, good, beaten = outcome(0.3, 1), outcome(0.1, 3), outcome(0.4, 2)
    kept = pictures.frontier([beaten, good, cheap], "mean_ms")
    assert [each.mean_ms for each in kept] == [1.0, 3.0]


def test_the_picture_is_written(tmp_path):
    path = tmp_path / "frontier.png"
    pictures.draw(
        {"static 1": outcome(0.3, 1), "static 2": outcome(0.2, 2)},
        {"large": outcome(0.1, 4)},
        {A: outcome(0.3, 0.5), B: outcome(0.15, 0.9)},
        [B],
        path,
    )
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_plan_of_other_updates_is_otherwise_the_same():
    plan = train.PLAN.with_updates(30, 20)
    for before, after, steps in (
        (train.PLAN.teacher_training, plan.teacher_training, 30),
        (train.PLAN.student_training, plan.student_training, 20),
        (train.PLAN.fresh["sprinter"], plan.fresh["sprinter"], 60),
    ):
        assert after == dataclasses.replace(before, steps=steps)
    assert plan.students == train.PLAN.students
    assert plan.static == ("static 1", "static 2", "static 3")


@pytest.mark.parametrize("code", [0, 3])
def test_each_seed_trains_in_a_process_of_its_own(monkeypatch, tmp_path, code):
    plan = train.PLAN.with_updates(30, 20)
    students = {seed: [mock.Mock(done=seed == 1)] for seed in (0, 1, 2)}
    monkeypatch.setattr(
        train,
        "make_students",
        lambda seed, *_: dict(enumerate(students[seed])),
    )
    for name in ("make_teacher", "write_lessons", "error_rates"):
        monkeypatch.setattr(train, name, mock.Mock())
    process = mock.Mock(returncode=code)
    process.wait.return_value = code
    start = mock.Mock(return_value=process)
    monkeypatch.setattr(train.subprocess, "Popen", start)
    splits = {"train": [], "validation": []}
    for student in students[0]:
        student.figures.return_value = {"phoneme_error_rate": 0, "seconds": 0}
        student.name = "static"
    failure = pytest.raises(subprocess.CalledProcessError)
    with failure if code else contextlib.nullcontext():
        train.train(splits, tmp_path, (0, 1, 2), plan)
    # The first that waits is trained here, what is done not at all.
    assert [each[0].train.called for each in students.values()] == [
        *(True, False, False)
    ]
    start.assert_called_once()
    options = start.call_args.args[0][3:]
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    given = parser.parse_args(options)
    assert (list(given.seeds), given.state) == ([2], tmp_path)
    assert train.plan_of(given) == plan
