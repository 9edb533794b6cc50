import numpy as np
import pytest

from benchmarks.random_feature_attention import cost
from benchmarks.random_feature_attention import numerical
from benchmarks.random_feature_attention import weight_error
from benchmarks.shared.report import Report


def times(exponent, softmax):
    lengths = cost.LENGTHS
    ours = {length: 1e-4 * length**exponent for length in lengths}
    return {
        "softmax": dict(zip(lengths[:5], softmax, strict=True)),
        "features_128": ours,
        "features_256": {n: 2 * t for n, t in ours.items()},
    }


def test_claims_of_cost():
    report = Report("test")
    softmax = [0.01, 0.05, 0.5, 1.0, 9.0]
    modes = ("forward_graph", "both_graph", "forward_xla", "both_xla")
    cost.add_times(report, {m: times(1.0, softmax) for m in modes})
    claims = {claim.name: claim for claim in report.claims}
    assert claims["speedup_8192"].value == pytest.approx(9.0 / 0.8192)
    assert claims["time_exponent"].value == pytest.approx(1.0)
    assert all(claim.holds for claim in report.claims)
    assert report.figures["cross_over_both_graph_features_128"] == 2048
    assert report.figures["cross_over_both_graph_features_256"] == 2048
    spread = report.figures["time_per_token_spread_both_graph_features_128"]
    assert spread == pytest.approx(1.0)


def test_growth_that_is_not_linear_shows():
    assert cost.exponent(times(2.0, [1.0] * 5)["features_128"]) == (
        pytest.approx(2.0)
    )


def test_claims_of_memory():
    peaks = {
        "softmax": {8192: 40.0},
        "features_128": {8192: 1.0, 32768: 2**22},
        "features_256": {8192: 4.0, 32768: 2**22},
    }
    report = Report("test")
    cost.add_memory(report, {"forward": peaks, "both": peaks})
    (claim,) = report.claims
    assert (claim.name, claim.value) == ("memory_ratio_8192", 40.0)
    assert report.figures["memory_ratio_8192_both_features_256"] == 10.0


def test_the_peer_is_left_out_where_its_scores_do_not_fit():
    assert cost.SOFTMAX in cost.layers_at(8192, "both")
    assert cost.SOFTMAX not in cost.layers_at(32768, "forward")


def test_errors_vanish_with_many_features():
    queries, keys = weight_error.sample("scales", np.random.default_rng(0), 8)
    for options in weight_error._PUBLISHED.values():
        few, many = (
            weight_error.error(
                0.3 * queries,
                0.3 * keys,
                count,
                1,
                covariance="isotropic",
                **options,
            )
            for count in (32, 8192)
        )
        assert many < few / 10
        assert many < 0.01


@pytest.mark.parametrize(
    "length", [128, pytest.param(512, marks=pytest.mark.large)]
)
def test_float32_is_compared_with_the_same_kernel(monkeypatch, length):
    monkeypatch.setattr(numerical, "_LENGTH", length)
    for bounded in (False, True):
        assert 0.0 < numerical.float32_error(0.5, bounded, True) < 1e-5
