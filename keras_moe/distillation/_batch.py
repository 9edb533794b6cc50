"""A batch: labels, weights, masks, and what lies beside a model's inputs."""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.ops._token_ids import is_left_out
from keras_moe.types import Tensor

# Reserved name of an input: whether an example's label is known to be right.
LABELLED = "labelled"
# Reserved names of inputs: the part of the teacher's logits that
# `write_teacher_logits` keeps.
TEACHER_TOKEN_IDS = "teacher_token_ids"
TEACHER_LOG_PROBABILITIES = "teacher_log_probabilities"
_RESERVED = (LABELLED, TEACHER_TOKEN_IDS, TEACHER_LOG_PROBABILITIES)


class Batch(NamedTuple):
    """A batch, beside the outputs of the models.

    Attributes:
        labels: the `y` that `fit` was given, or `None`.
        mask: bool `[batch, length]`, false for padding, or `None`.
        sample_weight: the weights that `fit` was given, or `None`.
        labelled: bool `[batch]`, false where a label is not to be trusted, or
            `None`.
    """

    labels: Any
    mask: Tensor | None
    sample_weight: Any
    labelled: Tensor | None

    def label_weight(self) -> Tensor | None:
        """Returns the sample weights, 0 where a label is not to be trusted."""
        if self.labelled is None:
            return self.sample_weight
        trusted = ops.cast(self.labelled, "float32")
        if self.sample_weight is None:
            return trusted
        weights = ops.cast(self.sample_weight, "float32")
        for _ in range(len(weights.shape) - 1):
            trusted = ops.expand_dims(trusted, -1)
        return weights * trusted


def own_inputs(inputs: Any) -> Any:
    """Returns the inputs that a model reads, without the reserved names."""
    if not isinstance(inputs, dict):
        return inputs
    return {name: inputs[name] for name in inputs if name not in _RESERVED}


def labelled_examples(inputs: Any) -> Tensor | None:
    """Returns bool `[batch]`; `None` if the inputs have no `LABELLED`."""
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
    """Returns which tokens are real; `None` if there is no padding.

    Args:
        inputs: the inputs of the batch.
        labels: `[batch, length]`, or `None`.
        outputs: the student's outputs, with Keras's mask, if they have one.
        pad_id: the label that marks padding, if any; then -100 does, too.
        student: the student.

    Returns:
        bool `[batch, length]`, or `None`.
    """
    mask = get_mask(outputs)
    if pad_id is None:
        return mask
    if labels is not None:
        real = ops.logical_not(is_left_out(labels, pad_id))
    elif isinstance(inputs, dict) and "decoder_token_ids" in inputs:
        # A token is expected at the start, and after every real token but the
        # one that ends the sequence.
        before = ops.convert_to_tensor(inputs["decoder_token_ids"])
        real = (before != pad_id) & (before != student.config.end_id)
        real = real | (ops.arange(ops.shape(before)[1]) == 0)
    else:
        return mask
    return real if mask is None else ops.logical_and(mask, real)
