"""The divergence of a student's distribution from its teacher's, by token."""

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_positive


def token_kl_divergence(
    teacher_logits: Tensor,
    student_logits: Tensor,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Returns T^2 times the KL divergence of softened distributions.

    `T^2 * KL(softmax(teacher / T) || softmax(student / T))`, from
    log-probabilities: nothing is clipped, and no epsilon is added. The factor
    keeps the size of the gradient when T changes. Its gradient with respect to
    the student's logits is `T * (softmax(student / T) - softmax(teacher /
    T))`.

    Source: [Hinton et al., 2015](https://arxiv.org/abs/1503.02531), section 2.

    Args:
        teacher_logits: `[..., vocabulary]`; minus infinity forbids a token.
        student_logits: of the same shape, of any floating dtype.
        mask: bool `[...]`, false for padding, which may hold anything.
        temperature: T.

    Returns:
        float32 `[...]` in nats; 0 for padding.

    Raises:
        ValueError: if the vocabularies differ, or `temperature` is not
            positive.

    Example:

    >>> teacher, student = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    >>> loss = keras_moe.losses.token_kl_divergence(teacher, student)
    >>> round(float(loss[0]), 4)
    0.3681
    """
    check_positive(temperature=temperature)
    check_vocabularies(teacher_logits, student_logits)
    teacher = real_logits(teacher_logits, mask) / temperature
    student = real_logits(student_logits, mask) / temperature
    log_p = ops.log_softmax(teacher, axis=-1)
    log_q = ops.log_softmax(student, axis=-1)
    return temperature**2 * expected_difference(log_p, log_q)


def expected_difference(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Returns the sum over the last axis of p (log p - log q)."""
    p = ops.exp(log_p)
    # Where p is 0, neither the value nor the gradient may be 0 times infinity.
    possible = p > 0
    log_p = ops.where(possible, log_p, 0.0)
    log_q = ops.where(possible, log_q, 0.0)
    return ops.sum(p * (log_p - log_q), axis=-1)


def real_logits(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Returns float32 logits, with zeros for padding."""
    logits = ops.cast(logits, "float32")
    if mask is None:
        return logits
    return ops.where(ops.expand_dims(ops.cast(mask, "bool"), -1), logits, 0.0)


def check_vocabularies(teacher_logits: Tensor, student_logits: Tensor) -> None:
    """Raises `ValueError` unless both have the same number of tokens."""
    teacher, student = teacher_logits.shape[-1], student_logits.shape[-1]
    if teacher != student:
        raise ValueError(
            "Teacher and student must have the same vocabulary. Received: "
            f"{teacher} logits of the teacher, {student} of the student."
        )
