import numpy as np
import pytest

from benchmarks.early_exit import certified
from benchmarks.early_exit import claims
from benchmarks.early_exit import time_decoders
from benchmarks.shared.report import Report


def test_forced_exits_are_ratios_to_the_full_decoder():
    times = {
        "full": 8.0,
        "never": 8.5,
        "deferred_exit3": 4.0,
        "deferred_exit2": 2.0,
        "eager_exit3": 5.0,
        "eager_exit2": 4.0,
    }
    large = {**times, "full": 6.0}
    report = Report("forced")
    claims.report_mechanism(
        report, {"v2048_b1": times, "v2048_b8": times, "v32000_b1": large}
    )
    found = {claim.name: claim for claim in report.claims}
    assert found["forced_speedup_exit3_v2048"].value == 2.0
    assert found["forced_speedup_exit2_v2048"].value == 4.0
    assert found["forced_speedup_exit3_v32000"].value == 1.5
    assert found["never_exit_ratio"].value == pytest.approx(8.0 / 8.5)
    assert report.holds


def test_a_broken_p_value_is_caught():
    # However fine the grid: half of it is safe, half barely is not. Risks are
    # exact, since the pool stands for the truth.
    random = np.random.default_rng(0)
    words = 4000
    risks = np.full(len(certified.THRESHOLDS), 0.021)
    risks[: len(risks) // 2] = 0.012
    rank = random.permuted(np.tile(np.arange(words), (len(risks), 1)), axis=1).T
    losses = (rank < np.round(4 * risks * words)) * 0.25
    np.testing.assert_allclose(losses.mean(axis=0), risks)
    report = Report("validity")
    claims.report_validity(report, losses)
    (claim,) = report.claims
    assert claim.name == "violation_rate"
    allowed = report.figures["violation_rate_allowed_with_slack"]
    assert claim.value <= allowed < 0.1
    assert report.figures["violation_rate_of_a_broken_p_value"] > allowed


def test_a_batch_is_as_deep_as_its_deepest_row():
    exits = np.array([[1, 3, 2, 0], [2, 1, 0, 0]])
    np.testing.assert_array_equal(time_decoders._deepest(exits), [2, 3, 2])
