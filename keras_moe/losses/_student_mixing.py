"""A loss for the labels of a teacher that is not always right."""

from keras import ops

from keras_moe.losses._token_kl_divergence import check_vocabularies
from keras_moe.losses._token_kl_divergence import real_logits
from keras_moe.types import Tensor
from keras_moe.validation import check_size


def student_mixing_loss(
    teacher_logits: Tensor,
    student_logits: Tensor,
    accuracy: Tensor,
    num_candidates: int = 5,
    mask: Tensor | None = None,
) -> Tensor:
    """Returns SLaM's loss, token by token: the student is mixed, not the label.

    The cross-entropy of the teacher's distribution and

    `a * f + (1 - a) * normalise((1 - f) * [token among the teacher's top])`

    where f is the student's distribution and a the probability that the
    teacher is right. The latter distribution is that of such a teacher if f
    were the truth. Where a is 1, the loss is the plain cross-entropy.

    Source: SLaM, [Kontonis et al., 2023](https://arxiv.org/abs/2302.03806),
    with the teacher's candidates as its section on many classes has it.

    Args:
        teacher_logits: `[..., vocabulary]`.
        student_logits: of the same shape.
        accuracy: `[...]`, a, in [0, 1]; see
            `keras_moe.distillation.TeacherAccuracy`.
        num_candidates: how many of the teacher's likeliest tokens are taken
            for candidates of the right one; at most the vocabulary.
        mask: bool `[...]`, false for padding, which may hold anything.

    Returns:
        float32 `[...]` in nats; 0 for padding.

    Raises:
        ValueError: if the vocabularies differ, or `num_candidates` is not
            from 1 to their size.

    Example:

    >>> teacher, student = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    >>> loss = keras_moe.losses.student_mixing_loss(
    ...     teacher, student, accuracy=np.array([1.0]), num_candidates=2
    ... )
    >>> round(float(loss[0]), 4)
    0.6931
    """
    check_vocabularies(teacher_logits, student_logits)
    check_size(num_candidates=num_candidates)
    vocabulary = student_logits.shape[-1]
    if num_candidates > vocabulary:
        raise ValueError(
            "`num_candidates` must be at most the vocabulary's "
            f"{vocabulary}. Received: num_candidates={num_candidates}."
        )
    teacher = real_logits(teacher_logits, mask)
    log_f = ops.log_softmax(real_logits(student_logits, mask), axis=-1)
    p = ops.softmax(teacher, axis=-1)
    # Ties with the k-th logit all count: a candidate too many biases the loss
    # less than losing the right one.
    lowest = ops.top_k(teacher, num_candidates)[0][..., -1:]
    candidate = ops.cast((teacher >= lowest) & (p > 0), "float32")
    wrong = -ops.expm1(log_f) * candidate  # 1 - f
    total = ops.sum(wrong, axis=-1, keepdims=True)
    # The total is 0 where the student gives a single candidate all its mass.
    share = ops.where(
        total > 0, wrong / ops.where(total > 0, total, 1.0), candidate
    )
    a = ops.expand_dims(ops.cast(accuracy, "float32"), -1)
    mixed = a * ops.exp(log_f) + (1.0 - a) * share
    # Tokens that get nothing mixed in stay in the log domain: f may underflow
    # to 0, whose log is infinite.
    plain = (1.0 - a) * share <= 0
    log_mixed = ops.where(
        plain,
        ops.log(ops.where(a > 0, a, 1.0)) + log_f,
        ops.log(ops.where(plain, 1.0, mixed)),
    )
    possible = p > 0
    cost = -ops.where(possible, p * ops.where(possible, log_mixed, 0.0), 0.0)
    loss = ops.sum(cost, axis=-1)
    if mask is None:
        return loss
    return ops.where(ops.cast(mask, "bool"), loss, 0.0)
