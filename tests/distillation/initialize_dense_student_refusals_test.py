"""A student that cannot be initialised is left as it was."""

import functools
import gc

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.distillation import initialize_dense_student
from tests.distillation.initialize_dense_student_case import by_path
from tests.distillation.initialize_dense_student_case import counted
from tests.distillation.initialize_dense_student_case import dense
from tests.distillation.initialize_dense_student_case import functional
from tests.distillation.initialize_dense_student_case import transformer


@functools.cache
def made(*sizes):
    """One of each sizes: who is refused is as it was."""
    return transformer(**dict(sizes))


def quantized(model):
    gc.freeze()
    model.quantize("int8")
    return model


def unbuilt():
    return keras.Sequential([layers.FeedForward(4, name="network")])


@pytest.mark.parametrize(
    ("teacher", "student", "options", "message"),
    [
        ({}, {}, {"feed_forward": "mean"}, "`feed_forward` must be one of"),
        ({}, {}, {"feed_forward": "most_used"}, "call the layer on data"),
        ({}, {"num_experts": 4}, {}, "`student` must be dense.*4 experts"),
        ({}, {"vocabulary_size": 40}, {}, "vocabulary_size=32 of the te.*40"),
        (
            {"target_vocabulary_size": 16},
            {"target_vocabulary_size": 17},
            {},
            "output_size=16 of the teacher, 17",
        ),
        ({}, {"pad_id": 3}, {}, "pad_id=0 of the teacher, 3 of the student"),
        ({}, {"end_id": 3}, {}, "end_id=1 of the teacher, 3 of the student"),
        ({}, {"model_dim": 8}, {}, r"\(32, 8\) float32 \(is \(32, 16\) float"),
        (
            {},
            {"hidden_dim": 24},
            {},
            r"block_0/feed_forward/wi/kernel \(16, 24\) .*\(is \(16, 32\)",
        ),
        (
            {},
            {"hidden_dim": 24},
            {"feed_forward": "average"},
            r"block_1/feed_forward/wi/kernel \(16, 24\) .*\(is \(16, 32\)",
        ),
        ({}, {"gated": True}, {}, "Missing: .*feed_forward/wi_gate/kernel"),
        ({}, {"exit_classifier": True}, {}, "Missing: .*exit_classifier/"),
        ({}, {"dtype": "bfloat16"}, {}, "bfloat16 .*float32. which `cast=True"),
        ({}, {"num_decoder_layers": 3}, {}, "2 decoder layers of the te.*3 of"),
        ({}, {"num_heads": 4}, {}, "num_heads=2 of the teacher, 4 of the"),
        ({}, {"activation": "gelu"}, {}, "activation='relu' of the teacher"),
        ({}, {}, {"layers": [1, 2]}, r"must be a dictionary.*\[1, 2\]"),
        ({}, {}, {"layers": {"decoder": 2}}, "must be a dictionary"),
        ({}, {}, {"layers": {"decoder": [1.5, 2]}}, "must be a dictionary"),
        ({}, {}, {"layers": {"decoder": [1]}}, r"2 decoder.*Received: \[1\]"),
        ({}, {}, {"layers": {"encoder": [0, 1]}}, r"Received: \[0, 1\]"),
        ({}, {}, {"layers": {"encoder": [1, 3]}}, r"Received: \[1, 3\]"),
        ({}, {}, {"layers": {"stack": [1]}}, r"`layers` must.*\['stack'\]"),
    ],
)
def test_a_refused_student_is_as_it_was(teacher, student, options, message):
    teacher = made(*teacher.items())
    student = made(*{"num_experts": 0, **student}.items())
    before = by_path(student)
    with pytest.raises(ValueError, match=message):
        initialize_dense_student(teacher, student, **options)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


def test_layers_that_the_teacher_lacks():
    teacher, student = functional("sparse"), functional("dense", "other")
    before = by_path(student)
    with pytest.raises(ValueError, match="Missing: other/wi/kernel, other"):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


@pytest.mark.parametrize(
    ("kinds", "number"),
    [(("dense", "dense", "dense"), 3), (("sparse", "dense"), 1)],
)
def test_order_is_no_guess(kinds, number):
    teacher, student = counted(*kinds), counted("dense", "dense")
    before = by_path(student)
    message = f"{number} layers 'feed_forward' of the teacher, 2 of the student"
    with pytest.raises(ValueError, match=message):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


def test_blocks_are_for_models_that_have_them():
    with pytest.raises(ValueError, match=r"`layers` must be of \[\]"):
        initialize_dense_student(
            functional("sparse"), functional("dense"), layers={"decoder": [1]}
        )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantised_models_are_refused():
    teacher, student = functional("sparse"), functional("dense")
    before = by_path(student)
    with pytest.raises(ValueError, match="`teacher` must not be quant.*int8"):
        initialize_dense_student(quantized(teacher), student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])
    with pytest.raises(ValueError, match="`student` must not be quant.*int8"):
        initialize_dense_student(functional("sparse"), quantized(student))


def test_models_must_be_built():
    for pair, role in (
        ((unbuilt(), functional("dense")), "teacher"),
        ((functional("sparse"), unbuilt()), "student"),
    ):
        with pytest.raises(ValueError, match=f"`{role}` must be built"):
            initialize_dense_student(*pair)


def test_lora_of_the_student_comes_later():
    teacher, student = transformer(), dense()
    student.encoder.blocks[0].attention.query.enable_lora(2)
    with pytest.raises(ValueError, match="must have no LoRA weights yet"):
        initialize_dense_student(teacher, student)


def test_weights_that_are_no_numbers_are_not_copied():
    teacher, student = transformer(), dense()
    before = by_path(student)
    kernel = teacher.decoder.blocks[1].cross_attention.key.kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match="block_1/cross_attention/key/kernel"):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])
