"""A decoder that sees what it must predict; inputs by other names."""

import warnings

import numpy as np
import pytest

from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.ops import shift_right
from keras_moe.training import EarlyExitTrainer
from keras_moe.training._unshifted_targets import warn_of_unshifted_targets

LABELS = np.array([[5, 6, 6, 1], [7, 1, 0, 0]])
SHIFTED = np.asarray(shift_right(LABELS))


@pytest.fixture(scope="module")
def model():
    return SwitchTransformer.from_preset("switch_tiny", num_experts=0)


def inputs(taught, name="decoder_token_ids"):
    return {"encoder_token_ids": LABELS, name: taught}


@pytest.mark.parametrize("wrap", [lambda model: model, EarlyExitTrainer])
def test_fit_says_so(model, wrap):
    trained = wrap(model)
    trained.compile("sgd", token_crossentropy, run_eagerly=True)
    with pytest.warns(UserWarning, match="`keras_moe.ops.shift_right"):
        trained.fit(inputs(LABELS), LABELS, verbose=0)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (inputs(SHIFTED), LABELS),
        (inputs(LABELS), None),
        (inputs(LABELS, "other"), LABELS),
        (inputs(LABELS[:, :2]), LABELS),
        (LABELS, LABELS),
        # A token that comes twice, and padding, are equal by chance.
        (inputs(np.array([[0, 6, 0]])), np.array([[6, 6, 0]])),
        (inputs(np.array([[6, 0, 0]])), np.array([[6, -100, 0]])),
    ],
)
def test_nothing_is_said_of_others(x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unshifted_targets(x, y, pad_id=0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (inputs(LABELS, "decoder_ids"), r"\['decoder_ids', 'encoder_token_ids"),
        (LABELS, "Received: ndarray|Received: EagerTensor"),
        ((LABELS, LABELS), "Received: tuple"),
    ],
)
def test_inputs_by_other_names_are_refused(model, given, named):
    with pytest.raises(
        ValueError, match="`inputs` must be a dictionary with"
    ) as refused:
        model(given)
    assert refused.match(named)


def test_a_decoder_of_one_layer_has_no_exit():
    single = SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, num_decoder_layers=1
    )
    with pytest.raises(ValueError, match="at least 2 decoder layers"):
        EarlyExitTrainer(single)
