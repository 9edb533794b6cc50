import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from keras_moe import components

pytestmark = pytest.mark.tfx


def evaluate(metric, rows, name=""):
    """Returns the value of a metric for one model."""
    (computation,) = metric.computations(model_names=[name])
    combiner = computation.combiner
    sums = combiner.create_accumulator()
    for outputs in rows:
        inputs = metric_types.StandardMetricInputs(
            {
                "labels": np.array([b""], object),
                "predictions": {name: outputs} if name else outputs,
                "example_weights": np.array([1.0]),
            }
        )
        sums = combiner.add_input(sums, inputs)
    (value,) = combiner.extract_output(sums).values()
    return value


def stages(*numbers):
    return [{"stage": np.array([n], np.int32), "p": 0.5} for n in numbers]


def test_a_share_counts_every_later_stage():
    share = components.DeferralShare()
    assert evaluate(share, stages(0, 1, 2, 0, 0)) == pytest.approx(2 / 5)
    # A signature with one output gives it without a name.
    assert evaluate(share, [np.array([1]), np.array([0])]) == 0.5


def test_nothing_deferred_is_told_apart_from_nothing_seen():
    share = components.DeferralShare()
    assert evaluate(share, stages(0, 0)) == 0.0
    assert np.isnan(evaluate(share, []))


def test_a_baseline_that_is_no_cascade_has_no_share():
    others = [{"phonemes": b"", "exit_layer": np.array([1])}] * 2
    for metric in (components.DeferralShare(), components.LayersPerAnswer()):
        rows = others if metric.name == "deferral_share" else stages(0, 1)
        assert np.isnan(evaluate(metric, rows, "baseline"))
        # A candidate is what the metric was asked for.
        for name in ("", "candidate"):
            with pytest.raises(
                ValueError, match="`prediction_key` must be one"
            ):
                evaluate(metric, rows, name)


@pytest.mark.parametrize("stage", [[0.0], [b"1"], [0, 1]])
def test_what_is_no_stage_is_refused(stage):
    with pytest.raises(ValueError, match="an integer for each example"):
        evaluate(components.DeferralShare(), [{"stage": np.array(stage)}])
