"""The weights of examples, taken out of the inputs of a data set."""

from typing import Any

import keras
import tensorflow as tf

from keras_moe.training._watched_batches import assert_weights

EXAMPLE_WEIGHT = "example_weight"


def with_example_weights(
    dataset: tf.data.Dataset, name: str = EXAMPLE_WEIGHT
) -> tf.data.Dataset:
    """Returns batches whose weights stand where `fit` looks for them.

    Models do not read a column of weights among their inputs: left there, it
    would be lost without a word, and each example count the same.

    Args:
        dataset: batches `(inputs, labels)` or `(inputs, labels, weights)`,
            inputs being a dictionary that has the column: one number for each
            row, `[batch]` or `[batch, 1]`.
        name: of the column.

    Returns:
        Batches `(inputs, labels, weights)`, without the column; weights are
        float32 `[batch]`, times those that there were before. A batch with a
        weight that is negative or no number, in the column or before, or
        without any above 0 in the end, stops whoever reads it.

    Raises:
        ValueError: if the inputs have no such column.

    Example:

    >>> inputs = {"x": np.ones((2, 3)), "example_weight": np.array([2.0, 0.5])}
    >>> dataset = tf.data.Dataset.from_tensors((inputs, np.zeros(2)))
    >>> for inputs, labels, weights in (
    ...     keras_moe.data.with_example_weights(dataset)
    ... ):
    ...     print(sorted(inputs), weights.numpy())
    ['x'] [2.  0.5]
    """
    spec = dataset.element_spec
    given = spec[0] if isinstance(spec, tuple) and len(spec) > 1 else None
    if not isinstance(given, dict) or name not in given:
        names = sorted(given) if isinstance(given, dict) else spec
        raise ValueError(
            f"`dataset` must give pairs of inputs and labels, with {name!r} "
            f"among the inputs. Received: {names}."
        )

    def take(*batch: Any) -> tuple[Any, Any, tf.Tensor]:
        inputs, labels, before = keras.utils.unpack_x_y_sample_weight(batch)
        weights = tf.cast(tf.reshape(inputs[name], [-1]), tf.float32)
        weights = assert_weights(weights)
        others = {key: inputs[key] for key in inputs if key != name}
        if before is not None:
            # Before the product, where two negative ones would hide.
            before = assert_weights(tf.cast(before, tf.float32))
            shape = [-1] + [1] * (before.shape.rank - 1)
            weights = assert_weights(tf.reshape(weights, shape) * before)
        return others, labels, _not_all_zero(weights, name)

    return dataset.map(take, num_parallel_calls=tf.data.AUTOTUNE)


def _not_all_zero(weights: tf.Tensor, name: str) -> tf.Tensor:
    check = tf.debugging.Assert(
        tf.reduce_any(weights > 0.0),
        [
            f"`{name}`, times the weights before, must not be 0 for all "
            "examples of a batch."
        ],
    )
    with tf.control_dependencies([check]):
        return tf.identity(weights)
