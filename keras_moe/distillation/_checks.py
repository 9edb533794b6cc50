"""What must be true of teacher and student before training starts."""

import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.types import Shape
from keras_moe.types import Tensor

# Fields of `config` in which two models of sequences must agree.
_VOCABULARY = (
    "vocabulary_size",
    "output_size",
    "pad_id",
    "end_id",
    "start_id",
)
_EXAMPLES = 32


def check_distillation(teacher: keras.Model, student: keras.Model) -> None:
    """Raises an error unless one model can be trained on the other, here.

    Args:
        teacher: the teacher.
        student: the student.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A distiller trains on the TensorFlow backend alone. Received: "
            f"{keras.backend.backend()!r}."
        )
    check_models(teacher, student)


def check_models(teacher: keras.Model, student: keras.Model) -> None:
    """Raises `ValueError` unless one model can be trained beside the other.

    Args:
        teacher: the teacher.
        student: the student.
    """
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{role}` must be a `keras.Model`. Received: {role}={model!r}."
            )
        outputs = getattr(model, "outputs", None) or [None]
        if len(outputs) != 1:
            raise ValueError(
                f"`{role}` must have one output. Received: {len(outputs)} of "
                f"{model.name}."
            )
    if teacher is student:
        raise ValueError(
            "`teacher` and `student` must be two models. Received the same "
            f"one, {student.name}, twice."
        )
    if not student.trainable_variables and student.built:
        raise ValueError(
            "`student` must have trainable weights. Received: "
            f"{student.name}, without any."
        )
    # The teacher is frozen, and with it what the student shares of it.
    frozen = {id(variable) for variable in teacher.variables}
    if student.built and all(
        id(variable) in frozen for variable in student.trainable_variables
    ):
        raise ValueError(
            "`student` must have trainable weights that the teacher does not "
            f"use. Received: {student.name}, all of whose weights are in "
            f"{teacher.name}."
        )


def check_share(**shares: Any) -> None:
    """Raises `ValueError` unless each is a number from 0 to 1."""
    for name, share in shares.items():
        if not is_number(share) or not 0 <= share <= 1:
            raise ValueError(
                f"`{name}` must be in [0, 1]. Received: {name}={share!r}."
            )


def is_number(value: Any) -> bool:
    """Returns whether a value is a number, Python's or NumPy's."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_configs(teacher: keras.Model, student: keras.Model) -> None:
    """Raises `ValueError` if two models of sequences differ in their ids."""
    for field in _VOCABULARY:
        given = getattr(getattr(teacher, "config", None), field, None)
        wanted = getattr(getattr(student, "config", None), field, None)
        if given is not None and wanted is not None and given != wanted:
            raise ValueError(
                "Teacher and student must have the same vocabulary. Received: "
                f"{field}={given} of the teacher, {wanted} of the student."
            )


def check_graphs(teacher: keras.Model, student: keras.Model) -> None:
    """Raises `ValueError` if Functional models differ in inputs or outputs.

    Dtypes may differ: each model casts for itself.
    """
    for kind in ("inputs", "outputs"):
        given = getattr(teacher, kind, None)
        wanted = getattr(student, kind, None)
        if not given or not wanted:
            continue
        if len(given) != len(wanted):
            raise ValueError(
                f"Teacher and student must have the same {kind}. Received: "
                f"{len(given)} of the teacher, {len(wanted)} of the student."
            )
        for one, other in zip(given, wanted, strict=True):
            if not shapes_fit(one.shape, other.shape):
                raise ValueError(
                    f"Teacher and student must have {kind} of the same shape. "
                    f"Received: {one.shape} of the teacher, {other.shape} of "
                    "the student."
                )


def shapes_fit(one: Shape, other: Shape) -> bool:
    """Returns whether two shapes are the same as far as they are known."""
    return len(one) == len(other) and all(
        a is None or b is None or a == b
        for a, b in zip(one, other, strict=True)
    )


def check_logits(teacher_logits: Tensor, student_logits: Tensor) -> None:
    """Raises `ValueError` unless both are logits of one shape, and numbers.

    Args:
        teacher_logits: the teacher's outputs for some examples.
        student_logits: the student's outputs for the same examples.
    """
    given, wanted = tuple(teacher_logits.shape), tuple(student_logits.shape)
    if given != wanted:
        raise ValueError(
            "Teacher and student must give logits of the same shape, over the "
            f"same vocabulary. Received: {given} of the teacher, {wanted} of "
            "the student."
        )
    check_finite(teacher_logits, "The first batch")
    for role, logits in (
        ("teacher", teacher_logits),
        ("student", student_logits),
    ):
        if _are_probabilities(logits):
            raise ValueError(
                "Teacher and student must give logits. Received: outputs of "
                f"the {role} that are probabilities; leave its softmax out."
            )


def _are_probabilities(outputs: Tensor) -> bool:
    values = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    # The only logit of a model of one class may be 1 and a logit all the same.
    return (
        values.shape[-1] > 1
        and bool((values >= 0).all())
        and bool(np.allclose(values.sum(axis=-1), 1.0, atol=1e-2))
    )


def check_finite(teacher_logits: Tensor, what: str) -> None:
    """Raises `ValueError` if a logit is neither a number nor forbidden.

    Args:
        teacher_logits: the logits; minus infinity forbids a token.
        what: which batch the logits belong to, for the message.
    """
    logits = np.asarray(
        ops.convert_to_numpy(ops.cast(teacher_logits, "float32"))
    )
    wrong = np.isnan(logits) | (logits == np.inf)
    if wrong.any():
        raise ValueError(
            "The teacher's logits must be numbers. Received: "
            f"{int(wrong.sum())} of {wrong.size} are NaN or infinite. {what} "
            "shows it: was the teacher's training stable, were its weights "
            "loaded?"
        )


def first_examples(x: Any) -> Any:
    """Returns the inputs of the first examples of the `x` given to `fit`.

    `None` for an iterator, which a look would use up.
    """
    import tensorflow as tf

    if x is None:
        return None
    if isinstance(x, tf.data.Dataset):
        first = next(iter(x.take(1)), None)
        if first is None:
            return None
        return keras.utils.unpack_x_y_sample_weight(first)[0]
    if isinstance(x, keras.utils.PyDataset):
        return keras.utils.unpack_x_y_sample_weight(x[0])[0]
    leaves = keras.tree.flatten(x)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        return keras.tree.map_structure(lambda leaf: leaf[:_EXAMPLES], x)
    return None
