import json

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from keras_moe import components

pytestmark = pytest.mark.tfx

# Answers, the best first, and what is relevant.
ROWS = [
    ([b"a", b"b", b"c", b"d"], [b"a"]),
    ([b"a", b"b", b"c", b"d"], [b"c"]),
    ([b"a", b"b", b"c", b"d"], [b"z"]),
    ([b"a", b"b", b"c", b"d"], [b"d", b"b"]),
    # A query that was refused: no answer is never the right one.
    ([b"", b"", b"", b""], [b"a"]),
]


def evaluate(metric, rows, names=("",)):
    """Returns model name to value; each row is for all models."""
    found = {}
    for computation in metric.computations(model_names=list(names)):
        combiner = computation.combiner
        sums = combiner.create_accumulator()
        for answers, label in rows:
            outputs = {"identifiers": np.array(answers), "scores": np.ones(4)}
            if len(names) > 1:
                outputs = dict.fromkeys(names, outputs)
            inputs = metric_types.StandardMetricInputs(
                {
                    "labels": np.array(label, object),
                    "predictions": outputs,
                    "example_weights": np.array([1.0]),
                }
            )
            sums = combiner.add_input(sums, inputs)
        for key, value in combiner.extract_output(sums).items():
            found[key.model_name] = value
    return found


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_recall_is_the_share_of_relevant_ones_that_are_found(k):
    shares = [
        sum(each in answers[:k] for each in label) / len(label)
        for answers, label in ROWS
    ]
    found = evaluate(components.RecallAtK(k), ROWS)
    assert found[""] == pytest.approx(np.mean(shares))


def test_reciprocal_ranks():
    metric = components.MeanReciprocalRank(k=4)
    # Ranks 1, 3, none, 2, none.
    expected = (1 + 1 / 3 + 0 + 1 / 2 + 0) / 5
    assert evaluate(metric, ROWS)[""] == pytest.approx(expected)
    cut = components.MeanReciprocalRank(k=2)
    assert evaluate(cut, ROWS)[""] == pytest.approx((1 + 1 / 2) / 5)


def test_against_another_implementation():
    keras_rs = pytest.importorskip("keras_rs")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        answers = rng.permutation(6)[:4]
        rows.append((answers, [rng.integers(6)]))
    truth = np.array([[*(a == label[0])] for a, label in rows], "float32")
    scores = np.tile(np.arange(4.0, 0, -1), (30, 1))
    theirs = keras_rs.metrics.MeanReciprocalRank(k=4)
    theirs.update_state(truth, scores)
    ours = evaluate(components.MeanReciprocalRank(k=4), rows)
    assert ours[""] == pytest.approx(float(theirs.result()), abs=1e-6)


def test_a_candidate_and_a_baseline():
    found = evaluate(components.RecallAtK(2), ROWS, ("candidate", "baseline"))
    assert found["candidate"] == found["baseline"] > 0


@pytest.mark.parametrize(
    ("answers", "label", "message"),
    [
        ([b"a", b"b"], [b"a"], "at least k=3 identifiers.*Received: 2"),
        ([b"a", b"b", b"c"], [], "must be a relevant identifier"),
        ([b"a", b"b", b""], [b""], "must be a relevant identifier"),
    ],
)
def test_what_cannot_be_counted_is_refused(answers, label, message):
    with pytest.raises(ValueError, match=message):
        evaluate(components.RecallAtK(3), [(answers, label)])


def test_names_and_sizes():
    assert components.RecallAtK(5).name == "recall_at_5"
    assert components.MeanReciprocalRank().name == "mrr_at_100"
    with pytest.raises(ValueError, match="positive integer. Received: k=0"):
        components.RecallAtK(0)


def test_found_by_name_as_the_evaluator_does():
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2

    spec = config_pb2.MetricsSpec(
        metrics=[
            components.metric_config("RecallAtK", k=3, revision="1"),
            components.metric_config("MeanReciprocalRank", name="mrr"),
        ]
    )
    computations = metric_specs.to_computations(
        [spec], config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()])
    )
    names = {key.name for c in computations for key in c.keys}
    assert {"recall_at_3", "mrr"} <= names


def test_bounds_of_metrics():
    from tensorflow_model_analysis.proto import config_pb2

    bound = components.overall_bound(at_least=0.5, may_fall_by=0.01)
    (everything,) = bound.slicing_specs
    assert everything == config_pb2.SlicingSpec()
    assert bound.threshold.value_threshold.lower_bound.value == 0.5
    change = bound.threshold.change_threshold
    assert change.absolute.value == -0.01
    assert change.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER
    config = components.metric_config("RecallAtK", bound, k=2)
    assert json.loads(config.config) == {"k": 2}
    rising = components.overall_bound(at_most=2.0)
    assert not rising.threshold.HasField("change_threshold")
    with pytest.raises(ValueError, match="must not both be given"):
        components.overall_bound(may_rise_by=1, may_fall_by=1)
    with pytest.raises(ValueError, match="must be given. Received: none"):
        components.overall_bound()
