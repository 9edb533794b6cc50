"""Which targets are hard for a student, and which teacher is best for it."""

import pathlib
import tempfile
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.data_efficiency import digits
from keras_moe.distillation import Distiller
from keras_moe.distillation import OnlineTeacher
from keras_moe.distillation import TokenDistillation
from keras_moe.metrics import supervision_complexity

EPOCHS = (1, 5, 15, 30, 60)
_ROWS, _NOISE, _STUDENT = 400, 0.2, 24
_STUDENT_EPOCHS = 60


def measure(seed: int) -> dict[str, Any]:
    """Returns complexities of targets, and what students come to.

    The teacher learns from 400 digits, a fifth of whose labels are wrong, and
    is kept after each of `EPOCHS`. Students learn from its answers to them.
    """
    parts = digits.load(seed)
    x, clean = (each[:_ROWS] for each in parts["train"])
    random = np.random.default_rng(seed)
    wrong = random.random(_ROWS) < _NOISE
    noisy = np.where(wrong, (clean + random.integers(1, 10, _ROWS)) % 10, clean)
    shuffled = random.permutation(clean)
    student = digits.classifier(_STUDENT, seed + 1)
    found: dict[str, Any] = {
        f"complexity_{name}": supervision_complexity(student, x, targets)
        for name, targets in (
            ("clean", clean),
            ("noisy", noisy),
            ("shuffled", shuffled),
        )
    }
    given = digits.Part(x, noisy)
    with tempfile.TemporaryDirectory() as folder:
        teacher = digits.classifier(256, seed)
        paths = {}
        for epochs in EPOCHS:
            more = epochs - max(paths, default=0)
            digits.train(teacher, given, more, rate=3e-3)
            paths[epochs] = pathlib.Path(folder, f"{epochs}.weights.h5")
            teacher.save_weights(paths[epochs])
            answers = ops.softmax(teacher(x), axis=-1)
            found[f"complexity_teacher_{epochs}"] = supervision_complexity(
                student, x, answers
            )
        found |= _students(teacher, paths, given, parts, seed)
    return found


def in_order(found: dict[str, Any]) -> bool:
    """Returns whether complexities rise where they should."""
    labels = [found[f"complexity_{n}"] for n in ("clean", "noisy", "shuffled")]
    teachers = [found[f"complexity_teacher_{n}"] for n in EPOCHS]
    return all(
        bool((np.diff(values) > 0).all()) for values in (labels, teachers)
    )


def _students(
    teacher: keras.Model,
    paths: dict[int, pathlib.Path],
    given: digits.Part,
    parts: dict[str, digits.Part],
    seed: int,
) -> dict[str, Any]:
    """Returns test accuracies under the last, the best and the online teacher.

    The best is that whose student is best on validation digits.
    """

    def taught(*callbacks: keras.callbacks.Callback) -> tuple[float, float]:
        student = digits.classifier(_STUDENT, seed + 1)
        distiller = Distiller(
            teacher, student, TokenDistillation(), student_loss_weight=0.0
        )
        distiller.compile(keras.optimizers.Adam(2e-3), digits.crossentropy())
        distiller.fit(
            given.x,
            given.y,
            batch_size=64,
            epochs=_STUDENT_EPOCHS,
            callbacks=list(callbacks),
            verbose=0,
        )
        return tuple(
            digits.accuracy(student, parts[name])
            for name in ("validation", "test")
        )

    fixed = {}
    for epochs, path in paths.items():
        teacher.load_weights(path)
        fixed[epochs] = taught()
    best = max(fixed, key=lambda epochs: fixed[epochs][0])
    starts = np.linspace(0, _STUDENT_EPOCHS, len(paths) + 1)[:-1].astype(int)
    online = OnlineTeacher(
        dict(zip(starts.tolist(), paths.values(), strict=True))
    )
    return {
        "student_last_teacher": fixed[max(fixed)][1],
        "student_best_checkpoint": fixed[best][1],
        "student_best_checkpoint_epochs": best,
        "student_online_teacher": taught(online)[1],
    }
