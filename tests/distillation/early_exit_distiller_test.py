"""Every exit of a student learns, from its teacher and from its last layer."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import TokenDistillation
from keras_moe.losses import exit_weights
from keras_moe.losses import hidden_state_distance
from keras_moe.losses import token_crossentropy
from keras_moe.losses import token_kl_divergence
from keras_moe.losses import weighted_mean
from keras_moe.models import SwitchTransformer

TARGET = np.array([[4, 5, 6, 1], [7, 1, 0, 0]])
INPUTS = {
    "encoder_token_ids": np.array([[5, 6, 7, 1, 0], [8, 9, 1, 0, 0]]),
    "decoder_token_ids": np.array([[0, 4, 5, 6], [0, 7, 1, 0]]),
}
MASK = TARGET != 0
WEIGHTS = np.array([0.5, 2.0])


def transformer(seed, **sizes):
    keras.utils.set_random_seed(seed)
    return SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=1,
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
        **sizes,
    )


@functools.cache
def teacher_of_all():
    """To read alone."""
    return transformer(0)


def pair(layers=3):
    return teacher_of_all(), transformer(
        1, num_experts=0, num_decoder_layers=layers
    )


def evaluate(distiller, **kwargs):
    # Not traced: it takes longer than these small sums.
    distiller.compile("sgd", run_eagerly=True)
    return distiller.evaluate(
        INPUTS, TARGET, return_dict=True, verbose=0, **kwargs
    )


@pytest.mark.parametrize(
    "share",
    [
        0.3,
        *(pytest.param(each, marks=pytest.mark.large) for each in (0.0, 1.0)),
    ],
)
def test_against_each_exit_by_itself(share):
    teacher, student = pair()
    distiller = EarlyExitDistiller(
        teacher,
        student,
        TokenDistillation(2.0),
        student_loss_weight=0.4,
        last_exit_weight=share,
        weighting="linear",
    )
    given = teacher(INPUTS)
    exits = [
        student.logits(state)
        for state in student.exit_states(INPUTS, [1, 2, 3])
    ]
    hard = soft = 0.0
    for index, (logits, weight) in enumerate(
        zip(exits, exit_weights([1, 2, 3]), strict=True)
    ):
        hard += weight * token_crossentropy(
            TARGET, logits, sample_weight=WEIGHTS
        )
        taught = weighted_mean(
            token_kl_divergence(given, logits, MASK, 2.0), MASK, WEIGHTS
        )
        agreed = weighted_mean(
            token_kl_divergence(exits[-1], logits, MASK), MASK, WEIGHTS
        )
        if index < 2:
            taught = (1 - share) * taught + share * agreed
        soft += weight * taught

    found = evaluate(distiller, sample_weight=WEIGHTS)

    assert found["student_loss"] == pytest.approx(float(hard), rel=1e-5)
    assert found["distillation_loss"] == pytest.approx(float(soft), rel=1e-5)
    assert found["loss"] == pytest.approx(
        0.4 * float(hard) + 0.6 * float(soft), rel=1e-5
    )


def test_one_exit_is_a_plain_distiller():
    teacher, student = pair()
    distiller = EarlyExitDistiller(teacher, student, min_exit_layer=3)

    found = evaluate(distiller)

    assert distiller.exits == (3,)
    hard = token_crossentropy(TARGET, student(INPUTS))
    soft = weighted_mean(
        token_kl_divergence(teacher(INPUTS), student(INPUTS), MASK), MASK
    )
    assert found["student_loss"] == pytest.approx(float(hard), rel=1e-5)
    assert found["distillation_loss"] == pytest.approx(float(soft), rel=1e-5)


def test_hidden_states_count_once_beside_exits():
    teacher, student = pair()
    distiller = EarlyExitDistiller(
        teacher,
        student,
        HiddenStateDistillation(2, 2, projection=False),
        student_loss_weight=0.0,
        last_exit_weight=0.0,
        exit_interval=2,
    )

    found = evaluate(distiller)

    (given,), (made,) = (
        model.exit_states(INPUTS, [2]) for model in (teacher, student)
    )
    distance = weighted_mean(hidden_state_distance(given, made, MASK), MASK)
    assert distiller.exits == (1, 3)
    assert found["loss"] == pytest.approx(float(distance), rel=1e-5)


def test_the_last_exit_does_not_come_down_to_the_others(run_eagerly):
    teacher, student = pair(layers=2)
    distiller = EarlyExitDistiller(
        teacher,
        student,
        student_loss_weight=0.0,
        last_exit_weight=1.0,
        # The last exit itself then learns nothing.
        distillation_loss_weights=0.0,
    )
    distiller.compile("sgd", jit_compile=False, run_eagerly=run_eagerly)
    last = ops.convert_to_numpy(student(INPUTS))
    block = student.decoder.blocks[-1]
    before = [np.array(weight) for weight in block.weights]

    distiller.train_on_batch(INPUTS, TARGET)

    # Layers above the lower exit have no part in it but as a target.
    for weight, value in zip(block.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert not np.allclose(student(INPUTS), last)


def test_every_exit_comes_nearer_to_the_teacher():
    teacher, student = pair(layers=2)
    distiller = EarlyExitDistiller(teacher, student, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.Adam(0.05), run_eagerly=True)

    def divergences():
        return [
            float(
                weighted_mean(
                    token_kl_divergence(
                        teacher(INPUTS), student.logits(state), MASK
                    ),
                    MASK,
                )
            )
            for state in student.exit_states(INPUTS, [1, 2])
        ]

    before = divergences()
    distiller.fit(INPUTS, TARGET, epochs=4, verbose=0)

    for late, early in zip(divergences(), before, strict=True):
        assert late < 0.5 * early


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"last_exit_weight": 1.5}, "`last_exit_weight` must be in"),
        ({"last_exit_weight": "1"}, "`last_exit_weight` must be in .*'1'"),
        ({"min_exit_layer": 4}, "`min_exit_layer` must be a layer"),
        ({"weighting": "none"}, "`weighting` must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyExitDistiller(*pair(), **arguments)


def test_a_student_of_one_layer_is_refused():
    with pytest.raises(ValueError, match="`student` must have at least 2 dec"):
        EarlyExitDistiller(
            transformer(0), transformer(0, num_decoder_layers=1, moe_every=1)
        )


def test_a_student_without_exits_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

    with pytest.raises(ValueError, match="`student` must be Exiting: it lacks"):
        EarlyExitDistiller(transformer(0), model)
