"""What perturbed inputs add to the distillation of 77 digits."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks.data_efficiency import digits
from keras_moe.distillation import Distiller
from keras_moe.distillation import LatentExploration
from keras_moe.distillation import TokenDistillation

TEMPERATURES = (2.0, 4.0, 8.0)
NOISES = (0.1, 0.2, 0.35, 0.5, 0.8)
SCALES = (0.5, 1.0, 2.0)
_COUNTS = [30 * 0.6**digit for digit in range(10)]  # a long tail
_CODE, _STUDENT = 16, 24
_STEPS, _STEPS_AT_ONCE = 1_500, 50


def measure(seed: int) -> dict[str, float]:
    """Returns accuracies on test digits, of each way to teach a student.

    What has a strength is tuned on validation digits. Beside perturbed inputs
    stands a higher temperature, which costs nothing.
    """
    parts = digits.load(seed)
    teacher = digits.classifier(256, seed)
    digits.train(teacher, parts["train"], epochs=40)
    few = _few(parts["train"])
    encoder, decoder = _autoencoder(parts["train"], seed)
    ways: dict[str, dict[Any, Any]] = {
        "plain": {None: lambda student: None},
        "temperature": dict.fromkeys(TEMPERATURES, lambda student: None),
        "noise": {
            scale: lambda student, scale=scale: keras.layers.GaussianNoise(
                scale, seed=seed
            )
            for scale in NOISES
        },
        "mixup": {None: lambda student: _Mix(seed)},
        "generator_random": {
            scale: lambda student, scale=scale: LatentExploration(
                encoder, decoder, scale, seed=seed
            )
            for scale in SCALES
        },
        "generator_gradient": {
            None: lambda student: LatentExploration(
                encoder,
                decoder,
                1.0,
                teacher=teacher,
                student=student,
                num_steps=2,
                seed=seed,
            )
        },
    }
    found = {
        "digits": float(len(few.y)),
        "teacher": digits.accuracy(teacher, parts["test"]),
    }
    for name, strengths in ways.items():
        best = (-1.0, 0.0, None)
        for strength, make in strengths.items():
            student = digits.classifier(_STUDENT, seed + 1)
            heat = strength if name == "temperature" else 1.0
            _distill(teacher, student, few, make(student), heat)
            validated = digits.accuracy(student, parts["validation"])
            if validated > best[0]:
                tested = digits.accuracy(student, parts["test"])
                best = (validated, tested, strength)
        found[name] = best[1]
        if best[2] is not None:
            found[f"{name}_strength"] = best[2]
    return found


def _few(part: digits.Part) -> digits.Part:
    rows = [
        np.flatnonzero(part.y == digit)[: max(2, int(count))]
        for digit, count in enumerate(_COUNTS)
    ]
    chosen = np.concatenate(rows)
    return digits.Part(part.x[chosen], part.y[chosen])


def _distill(
    teacher: keras.Model,
    student: keras.Model,
    few: digits.Part,
    perturbation: Any,
    temperature: float,
) -> None:
    """Trains on the teacher's answers alone, in as many steps for each way."""
    distiller = Distiller(
        teacher,
        student,
        TokenDistillation(temperature),
        student_loss_weight=0.0,
        input_perturbation=perturbation,
    )
    distiller.compile(
        keras.optimizers.Adam(5e-3),
        digits.crossentropy(),
        steps_per_execution=_STEPS_AT_ONCE,
        jit_compile=False,
    )
    batches = tf.data.Dataset.from_tensors((few.x, few.y)).repeat(_STEPS)
    distiller.fit(batches, shuffle=False, verbose=0)


def _autoencoder(
    part: digits.Part, seed: int
) -> tuple[keras.Sequential, keras.Sequential]:
    """Returns the teacher's generator, which has seen the teacher's digits."""
    keras.utils.set_random_seed(seed)
    encoder, decoder = (
        keras.Sequential(
            [
                keras.Input([given]),
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dense(made, activation=last),
            ]
        )
        for given, made, last in ((64, _CODE, None), (_CODE, 64, "sigmoid"))
    )
    whole = keras.Sequential([keras.Input([64]), encoder, decoder])
    whole.compile(keras.optimizers.Adam(1e-3), "mse")
    whole.fit(part.x, part.x, batch_size=64, epochs=60, verbose=0)
    return encoder, decoder


class _Mix:
    """Mixup of inputs: each with another of its batch."""

    def __init__(self, seed: int):
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(self, x: Any) -> Any:
        shape = [ops.shape(x)[0], 1]
        share = keras.random.uniform(shape, seed=self.seed_generator)
        order = keras.random.shuffle(
            ops.arange(ops.shape(x)[0]), seed=self.seed_generator
        )
        return share * x + (1.0 - share) * ops.take(x, order, axis=0)
