import pickle

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from keras_moe import components

pytestmark = pytest.mark.tfx

EXAMPLES = [  # prediction, listed
    (b"HH EH L UW", b"HH AH L OW|HH EH L OW"),
    (b"R IY D", b"R EH D|R IY D"),
    (b"", b"AH"),
]


def inputs(prediction, label):
    return metric_types.StandardMetricInputs(
        {
            "labels": np.array([label], object),
            "predictions": prediction,
            "example_weights": np.array([1.0]),
        }
    )


def evaluate(metric, examples):
    (computation,) = metric.computations(model_names=[""])
    # As on Beam's workers, with two of them.
    combiner = pickle.loads(pickle.dumps(computation.combiner))
    accumulators = [combiner.create_accumulator() for _ in range(2)]
    for index, example in enumerate(examples):
        place = index % 2
        accumulators[place] = combiner.add_input(
            accumulators[place], inputs(*example)
        )
    merged = combiner.merge_accumulators(accumulators)
    (rate,) = combiner.extract_output(merged).values()
    return rate


def as_outputs(name="phonemes"):
    """As TFMA hands on the outputs of a signature that has several."""
    return [
        ({name: np.array([p], object), "status": np.array([b"ok"])}, label)
        for p, label in EXAMPLES
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (components.PhonemeErrorRate(), 2 / 8),
        (components.WordErrorRate(), 2 / 3),
        (components.WordErrorRate(mode="strict"), 3 / 3),
    ],
)
def test_rates(metric, expected):
    assert evaluate(metric, as_outputs()) == pytest.approx(expected)
    single = [(np.array([p], object), label) for p, label in EXAMPLES]
    assert evaluate(metric, single) == pytest.approx(expected)


def test_another_output_can_be_the_prediction():
    metric = components.WordErrorRate(prediction_key="said")
    assert evaluate(metric, as_outputs("said")) == pytest.approx(2 / 3)


def test_no_example_is_no_rate():
    assert np.isnan(evaluate(components.PhonemeErrorRate(), []))


def test_a_prediction_that_is_no_text():
    with pytest.raises(ValueError, match="must be one string"):
        evaluate(components.PhonemeErrorRate(), [(np.array([0.5, 0.5]), b"AH")])


def test_found_by_name_as_the_evaluator_does():
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2

    spec = config_pb2.MetricsSpec(
        metrics=[
            config_pb2.MetricConfig(
                class_name="WordErrorRate",
                module="keras_moe.components",
                config='{"mode": "strict", "name": "strict"}',
            )
        ]
    )
    computations = metric_specs.to_computations(
        [spec], config_pb2.EvalConfig(model_specs=[config_pb2.ModelSpec()])
    )
    names = {key.name for c in computations for key in c.keys}
    assert "strict" in names
