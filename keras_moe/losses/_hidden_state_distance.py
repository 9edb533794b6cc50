"""The distance of a student's hidden states from its teacher's."""

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_choice

HIDDEN_STATE_DISTANCES = ("mse", "cosine")


def hidden_state_distance(
    teacher_states: Tensor,
    student_states: Tensor,
    mask: Tensor | None = None,
    distance: str = "mse",
) -> Tensor:
    """Returns the distance of two hidden states, token by token.

    Sources: `"mse"` as [TinyBERT, Jiao et al.,
    2019](https://arxiv.org/abs/1909.10351), equation 8; `"cosine"` as
    [DistilBERT, Sanh et al., 2019](https://arxiv.org/abs/1910.01108),
    section 3.

    Args:
        teacher_states: `[..., dim]`.
        student_states: `[..., dim]`, projected to the teacher's size.
        mask: bool `[...]`, false for padding, which may hold anything.
        distance: `"mse"`, the mean squared difference over `dim`, or
            `"cosine"`, 1 minus the cosine.

    Returns:
        float32 `[...]`; 0 for padding.

    Raises:
        ValueError: if the sizes differ, or `distance` is unknown.

    Example:

    >>> teacher, student = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> float(keras_moe.losses.hidden_state_distance(teacher, student)[0])
    1.0
    """
    check_choice(HIDDEN_STATE_DISTANCES, distance=distance)
    if teacher_states.shape[-1] != student_states.shape[-1]:
        raise ValueError(
            "Hidden states must have the same size; project the student's. "
            f"Received: {teacher_states.shape[-1]} of the teacher, "
            f"{student_states.shape[-1]} of the student."
        )
    teacher = ops.cast(teacher_states, "float32")
    student = ops.cast(student_states, "float32")
    if mask is not None:
        real = ops.expand_dims(ops.cast(mask, "bool"), -1)
        teacher = ops.where(real, teacher, 0.0)
        student = ops.where(real, student, 0.0)
    if distance == "mse":
        return ops.mean(ops.square(teacher - student), axis=-1)
    cosine = ops.sum(teacher * student, axis=-1)
    # Each root is taken by itself: the product of the squares may leave the
    # range of float32. A zero vector counts as one of length 1: the gradient of
    # its root would be infinite.
    for states in (teacher, student):
        squares = ops.sum(ops.square(states), axis=-1)
        cosine = cosine * ops.rsqrt(ops.where(squares > 1e-30, squares, 1.0))
    if mask is None:
        return 1.0 - cosine
    return ops.where(ops.cast(mask, "bool"), 1.0 - cosine, 0.0)
