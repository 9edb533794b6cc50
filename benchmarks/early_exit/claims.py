"""What is claimed of forced exits and of certificates."""

import numpy as np

from benchmarks.early_exit import certified
from benchmarks.shared.report import Report
from keras_moe.calibration import violation_rate

_DRAWS = 1000
# Words drawn for each calibration. The pool must be larger, since its risks
# stand for the true ones.
_SAMPLE = 1000


def report_mechanism(report: Report, times: dict) -> None:
    """Adds the ratios of forced exits."""
    small, batch, large = (
        times[name] for name in ("v2048_b1", "v2048_b8", "v32000_b1")
    )
    for name, figures in times.items():
        report.add_figures(
            {f"forced_{name}_{key}_ms": ms for key, ms in figures.items()}
        )
        report.add_figures(
            {
                f"forced_{name}_{key}_speedup": figures["full"] / ms
                for key, ms in figures.items()
                if key != "full"
            }
        )
    report.add_figures(
        {"never_exit_ratio_batch8": batch["full"] / batch["never"]}
    )
    for layer, target in ((3, 2.0), (2, 3.0)):
        report.add_claim(
            f"forced_speedup_exit{layer}_v2048",
            small["full"] / small[f"deferred_exit{layer}"],
            target,
            ">=",
        )
    report.add_claim(
        "never_exit_ratio", small["full"] / small["never"], 0.92, ">="
    )
    report.add_claim(
        "forced_speedup_exit3_v32000",
        large["full"] / large["deferred_exit3"],
        1.4,
        ">",
    )


def report_validity(report: Report, losses: np.ndarray) -> None:
    """Adds how often a certificate is wrong, and with a broken p-value."""
    settings = {
        "thresholds": certified.THRESHOLDS,
        "tolerance": certified.TOLERANCE,
        "draws": _DRAWS,
        "sample_size": _SAMPLE,
    }
    rate = violation_rate(losses, **settings)

    def broken(losses, tolerance):
        # This p-value is wrong on purpose: it takes the sample's mean for the
        # true risk, as someone who picks a threshold by eye does.
        return np.where(losses.mean(axis=0) <= tolerance, 0.0, 1.0)

    caught = violation_rate(losses, p_value=broken, **settings)
    report.add_figures(
        {
            "violation_rate_allowed_with_slack": rate.allowed_rate,
            "violation_rate_of_a_broken_p_value": caught.rate,
        }
    )
    report.add_claim("violation_rate", rate.rate, 0.05, "<=")
