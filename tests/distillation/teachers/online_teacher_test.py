"""A teacher that walks through checkpoints."""

import keras
import numpy as np
import pytest

from keras_moe.distillation import CachedTeacher
from keras_moe.distillation import OnlineTeacher
from keras_moe.distillation import SparseToDenseDistiller
from tests.distillation.distiller_case import FEATURES
from tests.distillation.distiller_case import LABELS
from tests.distillation.distiller_case import classifier
from tests.distillation.distiller_case import compiled

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture
def paths(tmp_path):
    found = []
    for seed in (10, 11):
        found.append(tmp_path / f"{seed}.weights.h5")
        classifier(seed).save_weights(found[-1])
    return found


def made(teacher=0, **options):
    distiller = SparseToDenseDistiller(classifier(teacher), classifier(1))
    distiller.compile(
        keras.optimizers.SGD(0.1), LOSS, jit_compile=False, **options
    )
    return distiller


def distill(online, distiller=None, **options):
    distiller = distiller or made()
    teacher = distiller.teacher
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            np.asarray(teacher(FEATURES))
        )
    )
    logs = distiller.fit(
        FEATURES, LABELS, callbacks=[online, watch], verbose=0, **options
    ).history
    return seen, logs


def answers(seed):
    return np.asarray(classifier(seed)(FEATURES))


def test_each_teaches_from_its_epoch_on(paths):
    online = OnlineTeacher({3: paths[1], 1: str(paths[0])})
    seen, logs = distill(online, epochs=5)
    for found, seed in zip(seen, (0, 10, 10, 11, 11), strict=True):
        np.testing.assert_array_equal(found, answers(seed))
    # The compiled step reads the new weights, too.
    assert len(set(logs["distillation_loss"])) == 5
    student = classifier(1)
    expected = SparseToDenseDistiller(classifier(0), student)
    compiled(expected, loss=LOSS)
    first = expected.evaluate(FEATURES, LABELS, verbose=0, return_dict=True)
    assert logs["distillation_loss"][0] == pytest.approx(
        first["distillation_loss"], rel=1e-5
    )


def test_a_training_that_is_resumed_has_the_teacher_of_its_epoch(paths):
    online = OnlineTeacher({0: paths[0], 3: paths[1]})
    seen, _ = distill(online, epochs=5, initial_epoch=4)
    np.testing.assert_array_equal(seen[0], answers(11))
    # Used again, it begins again.
    seen, _ = distill(online, epochs=1)
    np.testing.assert_array_equal(seen[0], answers(10))


def test_a_second_training_begins_with_the_teacher_that_was_given(
    paths, run_eagerly
):
    online = OnlineTeacher({1: paths[0], 2: paths[1]})
    distiller = made(run_eagerly=run_eagerly)
    for epochs, initial_epoch, seeds in [
        (3, 0, (0, 10, 11)),
        (2, 0, (0, 10)),
        # Without an epoch of a checkpoint, and from the middle.
        (1, 0, (0,)),
        (3, 2, (11,)),
        (1, 0, (0,)),
    ]:
        seen, _ = distill(
            online, distiller, epochs=epochs, initial_epoch=initial_epoch
        )
        for found, seed in zip(seen, seeds, strict=True):
            np.testing.assert_array_equal(found, answers(seed))
    # What another teacher came with is another's.
    seen, _ = distill(online, made(run_eagerly=run_eagerly), epochs=1)
    np.testing.assert_array_equal(seen[0], answers(0))
    other = made(5, run_eagerly=run_eagerly)
    for _ in range(2):
        seen, _ = distill(online, other, epochs=2)
        np.testing.assert_array_equal(seen[0], answers(5))


def test_bad_input(paths, tmp_path):
    for checkpoints, message in [
        ({}, "must hold one. Received: none"),
        ({-1: paths[0]}, "integers of at least 0.* Received: -1"),
        ({True: paths[0]}, "integers of at least 0.* Received: True"),
        ({0.5: paths[0]}, "Received: 0.5"),
        ({0: tmp_path / "none"}, r"Received: checkpoints\[0\]=.*none"),
    ]:
        with pytest.raises(ValueError, match=message):
            OnlineTeacher(checkpoints)


def test_a_model_without_such_a_teacher(paths):
    online = OnlineTeacher({0: paths[0]})
    model = classifier(0)
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="for a distiller whose teacher has"):
        model.fit(FEATURES, LABELS, callbacks=[online], verbose=0)
    online.set_model(
        compiled(SparseToDenseDistiller(CachedTeacher(3), model), loss=LOSS)
    )
    with pytest.raises(ValueError, match="Received: SparseToDenseDistiller"):
        online.on_train_begin()
