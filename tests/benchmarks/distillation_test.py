"""What the distillation benchmark says of its runs follows from them."""

import pytest
from rich.console import Console

from benchmarks.distillation.claims import report_recipes
from benchmarks.shared.report import Report


def figures(nats, errors):
    return {
        "nats_per_token": nats,
        "phoneme_error_rate": errors,
        "word_error_rate": 0.5,
    }


def test_shares_of_the_gain():
    report = Report("title")
    runs = {
        "dense": [figures(0.50, 0.20), figures(0.52, 0.22)],
        "plain": [figures(0.50, 0.19), figures(0.50, 0.21)],
        "+ mix": [figures(0.40, 0.18), figures(0.42, 0.18)],
    }

    best = report_recipes(
        report, figures(0.31, 0.11), runs, Console(quiet=True)
    )

    assert best == "+ mix"
    claims = {claim.name: claim for claim in report.claims}
    # 0.51 to 0.41 of 0.51 to 0.31; 0.21 to 0.18 of 0.21 to 0.11.
    assert report.figures["+ mix_nats_per_token_kept"] == pytest.approx(0.5)
    assert report.figures["+ mix_phoneme_error_rate_kept"] == pytest.approx(0.3)
    assert claims["gain_kept"].value == pytest.approx(0.3)
    # The widest spread is 0.01 times the root of 2.
    assert claims[
        "teacher_gain_over_seed_spread_phoneme_error_rate"
    ].value == pytest.approx(0.10 / (0.01 * 2**0.5))
