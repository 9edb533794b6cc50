import pickle

import numpy as np
import pytest
from tensorflow_model_analysis.metrics import metric_types

from keras_moe import components
from keras_moe.components.evaluation._read_evaluation import _numbers

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


def as_outputs(name="outputs"):
    """As TFMA hands on the outputs of a signature that has several."""
    return [
        ({name: np.array([p], object), "status": np.array([b"ok"])}, label)
        for p, label in EXAMPLES
    ]


@pytest.mark.parametrize(
    ("metric", "arguments", "expected"),
    [
        ("SymbolErrorRate", {}, 2 / 8),
        ("SequenceErrorRate", {}, 2 / 3),
        ("SequenceErrorRate", {"mode": "strict"}, 3 / 3),
    ],
)
def test_rates(metric, arguments, expected):
    metric = getattr(components, metric)(
        alternatives_separator="|", **arguments
    )
    assert evaluate(metric, as_outputs()) == pytest.approx(expected)
    single = [(np.array([p], object), label) for p, label in EXAMPLES]
    assert evaluate(metric, single) == pytest.approx(expected)


def test_by_default_a_label_is_one_answer():
    example = [(np.array([b"a b"], object), b"a|c b")]
    assert evaluate(components.SymbolErrorRate(), example) == 1 / 2
    assert evaluate(components.SequenceErrorRate(), example) == 1.0


@pytest.mark.parametrize(
    ("separator", "alternatives", "prediction", "label", "expected"),
    [
        ("", ";", "abd", "xyz;abc", 1 / 3),  # characters
        ("", "", "日本", "日木", 1 / 2),
        (",", "\n", "up,,down", "left\nup,down", 0.0),
        (" ", "", "  so  far ", "so far", 0.0),
        (" ", "||", "a", "b c|d||a b", 1 / 2),
    ],
)
def test_any_symbols_any_separators(
    separator, alternatives, prediction, label, expected
):
    example = [(np.array([prediction.encode()], object), label.encode())]
    arguments = {
        "separator": separator,
        "alternatives_separator": alternatives,
    }
    symbols = components.SymbolErrorRate(**arguments)
    assert evaluate(symbols, example) == pytest.approx(expected)
    sequences = components.SequenceErrorRate(**arguments)
    assert evaluate(sequences, example) == float(expected > 0)


def test_another_output_can_be_the_prediction():
    metric = components.SequenceErrorRate(
        prediction_key="said", alternatives_separator="|"
    )
    assert evaluate(metric, as_outputs("said")) == pytest.approx(2 / 3)
    with pytest.raises(
        ValueError,
        match="metric 'sequence_error_rate': "
        "`prediction_key` must be one of outputs, status. Received: "
        "prediction_key='said'",
    ):
        evaluate(metric, as_outputs())


def test_tfmas_error_ends_with_the_cause():
    # TFMA wraps what a metric raises, and Beam forgets what was wrapped.
    from tensorflow_model_analysis.evaluators import (
        metrics_plots_and_validations_evaluator as evaluator,
    )

    (computation,) = components.SymbolErrorRate(
        prediction_key="said"
    ).computations(model_names=[""])
    combiner = evaluator._ComputationsCombineFn([computation])
    (example, *_) = as_outputs()
    extracts = {
        evaluator._COMBINER_INPUTS_KEY: [None],
        evaluator._DEFAULT_COMBINER_INPUT_KEY: [inputs(*example)],
    }
    with pytest.raises(
        RuntimeError,
        match="metric 'symbol_error_rate': `prediction_key` must be one of "
        "outputs, status. Received: prediction_key='said'",
    ):
        combiner.add_input(combiner.create_accumulator(), extracts)


def test_one_of_several_labels():
    labels = {"first": np.array([b"a"]), "second": np.array([b"b"])}
    extracts = inputs(np.array([b"b"], object), b"")
    extracts["labels"] = labels
    for key, expected in (("first", 1.0), ("second", 0.0)):
        metric = components.SymbolErrorRate(label_key=key)
        (computation,) = metric.computations(model_names=[""])
        combiner = computation.combiner
        sums = combiner.add_input(combiner.create_accumulator(), extracts)
        (rate,) = combiner.extract_output(sums).values()
        assert rate == expected


def test_no_example_is_no_rate():
    assert np.isnan(evaluate(components.SymbolErrorRate(), []))


def test_a_prediction_that_is_no_text():
    with pytest.raises(ValueError, match="must be one string"):
        evaluate(components.SymbolErrorRate(), [(np.array([0.5, 0.5]), b"AH")])


@pytest.mark.parametrize(
    "metric", [components.SymbolErrorRate, components.SequenceErrorRate]
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"separator": None}, "`separator` must be text"),
        ({"alternatives_separator": 3}, "`alternatives_separator` must be"),
        # Every symbol would be an answer of its own.
        ({"alternatives_separator": " "}, "must not stand in `separator`"),
        (
            {"separator": "||", "alternatives_separator": "|"},
            "must not stand in `separator`",
        ),
    ],
)
def test_separators_that_separate_nothing(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(**arguments)


def test_a_mode_is_refused_before_the_evaluation():
    with pytest.raises(ValueError, match="`mode` must be one of.*'loose'"):
        components.SequenceErrorRate(mode="loose")


def test_a_rate_that_is_no_number_is_read_as_one():
    written = {"rate": {"doubleValue": "NaN"}, "other": {"doubleValue": 0.5}}
    figures = _numbers({"": {"": written}})
    assert np.isnan(figures["rate"])
    assert figures["other"] == 0.5


def test_found_by_name_as_the_evaluator_does():
    from tensorflow_model_analysis.metrics import metric_specs
    from tensorflow_model_analysis.proto import config_pb2

    spec = config_pb2.MetricsSpec(
        metrics=[
            config_pb2.MetricConfig(
                class_name="SequenceErrorRate",
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
