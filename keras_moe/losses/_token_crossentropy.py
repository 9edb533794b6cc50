"""Cross-entropy of a sequence model, with padding left out."""

import keras
import numpy as np
from keras import ops

from keras_moe.losses._label_shape import check_label_shape
from keras_moe.losses._replica_share import shared_by_replicas
from keras_moe.losses._weighted_mean import weighted_mean
from keras_moe.ops._token_ids import IGNORE_ID
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor


@keras.saving.register_keras_serializable(package="keras_moe")
def token_crossentropy(
    labels: Tensor,
    logits: Tensor,
    pad_id: int = 0,
    label_smoothing: float = 0.0,
    sample_weight: Tensor | None = None,
    ignore_id: int | None = IGNORE_ID,
) -> Tensor:
    """Returns the mean cross-entropy over the tokens that are not padding.

    Any other label outside the vocabulary raises when eager. In a graph it
    makes the loss NaN, and `keras_moe.training.Trainer` names it as the cause.

    Under a strategy of `tf.distribute` with several replicas it is the mean
    over the replica's tokens, divided by the number of replicas, as Keras's
    own losses are: `compile` sums gradients over replicas, and leaves the
    scalar that a function returns as it is. The sum over replicas is then the
    loss of the global batch, if all have as many tokens.

    Args:
        labels: int `[batch, length]`.
        logits: `[batch, length, vocabulary]`; computed in float32.
        pad_id: the label that marks padding.
        label_smoothing: share of the target's mass that is spread evenly over
            the vocabulary.
        sample_weight: `[batch]` or `[batch, length]`, factors of the cost of
            each sequence or token; as in Keras, the number of tokens that
            divides the sum is not weighted.
        ignore_id: a label that is left out as padding is; `None` for none.

    Returns:
        A float32 scalar, in nats per token.

    Raises:
        ValueError: if a label is neither in the vocabulary nor left out, or
            there is not one for each position.

    Example:

    >>> logits = np.zeros((1, 3, 4))
    >>> loss = keras_moe.losses.token_crossentropy([[2, 1, 0]], logits)
    >>> round(float(loss), 4)  # log 4; the padding does not count
    1.3863
    """
    logits = ops.cast(logits, "float32")
    labels = ops.convert_to_tensor(labels)
    check_label_shape(labels, logits)
    vocabulary_size = logits.shape[-1]
    read = read_ids(labels, vocabulary_size, (pad_id, ignore_id))
    real = ops.logical_not(read.left_out)
    # Padding may hold NaN, which a product with 0 would not remove.
    logits = ops.where(ops.expand_dims(real, -1), logits, 0.0)
    log_p = ops.log_softmax(logits, axis=-1)
    # The gradient of a one-hot product needs no scatter, as that of `take`
    # would.
    target = ops.one_hot(read.ids, vocabulary_size, dtype="float32")
    if label_smoothing:
        target = target * (1.0 - label_smoothing)
        target = target + label_smoothing / vocabulary_size
    # A logit of minus infinity forbids a token: without `where` its 0 times
    # infinity would make the cost NaN.
    cost = ops.where(target > 0, -target * log_p, 0.0)
    per_token = ops.where(read.wrong, np.nan, ops.sum(cost, axis=-1))
    loss = weighted_mean(per_token, real, sample_weight)
    return shared_by_replicas(loss)
