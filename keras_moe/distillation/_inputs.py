"""What a batch holds beside the student's own inputs."""

from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.types import Tensor

# Whether an example's label is known to be right.
LABELLED = "labelled"
# What `write_teacher_logits` keeps of the teacher's logits.
TEACHER_TOKEN_IDS = "teacher_token_ids"
TEACHER_LOG_PROBABILITIES = "teacher_log_probabilities"
_RESERVED = (LABELLED, TEACHER_TOKEN_IDS, TEACHER_LOG_PROBABILITIES)


def own_inputs(inputs: Any) -> Any:
    """Returns the inputs without what is not a model's own."""
    if not isinstance(inputs, dict):
        return inputs
    return {name: inputs[name] for name in inputs if name not in _RESERVED}


def labelled_examples(inputs: Any) -> Tensor | None:
    """Returns bool `[batch]`, or `None` if nothing is said of it."""
    if not isinstance(inputs, dict) or LABELLED not in inputs:
        return None
    return ops.reshape(ops.cast(inputs[LABELLED], "bool"), (-1,))


def padding_mask(
    inputs: Any,
    labels: Any,
    outputs: Tensor,
    pad_id: int | None,
    student: keras.Model,
) -> Tensor | None:
    """Returns which tokens are none of padding; `None` if all are.

    Args:
        inputs: the inputs of the batch.
        labels: `[batch, length]`, or `None`.
        outputs: the student's outputs, with Keras's mask, if they have one.
        pad_id: the label that marks padding, if any.
        student: the student.

    Returns:
        bool `[batch, length]`, or `None`.
    """
    mask = get_mask(outputs)
    if pad_id is None:
        return mask
    if labels is not None:
        real = ops.convert_to_tensor(labels) != pad_id
    elif isinstance(inputs, dict) and "decoder_token_ids" in inputs:
        # Where a token is expected: at the start, and after every token but
        # the last one.
        before = ops.convert_to_tensor(inputs["decoder_token_ids"])
        real = (before != pad_id) & (before != student.config.end_id)
        real = real | (ops.arange(ops.shape(before)[1]) == 0)
    else:
        return mask
    return real if mask is None else ops.logical_and(mask, real)
