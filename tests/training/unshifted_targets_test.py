"""A decoder that sees what it must predict; inputs by other names."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.ops import shift_right
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import Trainer
from keras_moe.training._unshifted_targets import watch_targets
from tests.covering import covering

LABELS = np.array([[5, 6, 6, 1], [7, 1, 0, 0]])
SHIFTED = np.asarray(shift_right(LABELS))


@pytest.fixture(scope="module")
def model():
    return SwitchTransformer.from_preset("switch_tiny", num_experts=0)


def inputs(taught, name="decoder_token_ids"):
    return {"encoder_token_ids": LABELS, name: taught}


def data_set(taught, labels=LABELS):
    return tf.data.Dataset.from_tensor_slices((inputs(taught), labels)).batch(2)


class Rows(keras.utils.PyDataset):
    """A batch, as Keras's own data sets have them."""

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return inputs(LABELS), LABELS


def no_update(batch):
    """What is to be said is said before a batch is trained on."""
    return {"loss": tf.zeros(())}


def distiller(model):
    teacher = SwitchTransformer.from_preset("switch_tiny")
    return SparseToDenseDistiller(teacher, model)


def arrays():
    return inputs(LABELS), LABELS


def tensors():
    return tf.nest.map_structure(tf.constant, inputs(LABELS)), LABELS


@pytest.mark.parametrize(
    ("data", "wrap"),
    covering(
        [arrays, tensors, lambda: (data_set(LABELS),), lambda: (Rows(),)],
        [lambda model: model, EarlyExitTrainer, distiller],
        strength=1,
    ),
)
def test_fit_says_so(model, wrap, data):
    trained = wrap(model)
    trained.compile("sgd", token_crossentropy, run_eagerly=True)
    trained.train_step = no_update
    with pytest.warns(UserWarning, match="`keras_moe.ops.shift_right"):
        trained.fit(*data(), verbose=0)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_trainer_says_so(by_epoch):
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        num_experts=0,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    model.compile("sgd", token_crossentropy, jit_compile=False)
    model.train_step = no_update
    data = data_set(LABELS)
    with pytest.warns(UserWarning, match="`keras_moe.ops.shift_right"):
        Trainer(model).fit((lambda epoch: data) if by_epoch else data)


def test_a_data_set_gives_its_examples_once_and_in_order():
    """None is taken for the look; later batches are not looked at."""
    given = []

    def examples():
        for number in range(3):
            given.append(number)
            yield inputs(SHIFTED if number == 0 else LABELS), LABELS

    ids = tf.TensorSpec([None, None], "int64")
    spec = ({"encoder_token_ids": ids, "decoder_token_ids": ids}, ids)
    data = tf.data.Dataset.from_generator(examples, output_signature=spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = watch_targets(data, None, 0)
        assert watched.element_spec == data.element_spec
        assert not given
        taught = [batch[0]["decoder_token_ids"] for batch in watched]
    assert given == [0, 1, 2]
    for each, expected in zip(taught, (SHIFTED, LABELS, LABELS), strict=True):
        np.testing.assert_array_equal(each, expected)


def test_other_data_sets_are_left_as_they_are():
    other = tf.data.Dataset.from_tensor_slices((LABELS, LABELS)).batch(2)
    assert watch_targets(other, None, 0) is other
    iterator = iter(data_set(LABELS))
    assert watch_targets(iterator, None, 0) is iterator
    next(iterator)


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
        assert watch_targets(x, y, pad_id=0) is x
        if y is not None and x is not LABELS and len(x) == len(y):
            list(watch_targets(tf.data.Dataset.from_tensors((x, y)), None, 0))


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
