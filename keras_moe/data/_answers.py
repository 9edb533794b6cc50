"""What models say of a pool: log-probabilities, checked."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Far off what rounding does to a softmax, also in half precision.
_TOLERANCE = 1e-2


def inputs_and_labels(data: Any) -> tuple[Any, Any]:
    """Returns the inputs of a pool, and its labels or `None`.

    Args:
        data: inputs; `(inputs, labels)`; or a `tf.data.Dataset` of batches of
            either.

    Raises:
        ValueError: if a data set is empty, or holds rows instead of batches.
    """
    if isinstance(data, tf.data.Dataset):
        _check_batches(data, wanted=1)
        unpacked = data.map(_first_two)
        if not isinstance(unpacked.element_spec, tuple):
            return unpacked, None
        labels = [np.asarray(y) for _, y in unpacked.as_numpy_iterator()]
        if not labels:
            raise ValueError("`data` must hold rows. Received: an empty one.")
        return unpacked.map(lambda x, y: x), np.concatenate(labels)
    if isinstance(data, tuple):
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        return inputs, None if labels is None else np.asarray(labels)
    return data, None


def _first_two(*batch: Any) -> Any:
    inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(
        batch if len(batch) > 1 else batch[0]
    )
    return inputs if labels is None else (inputs, labels)


def _check_batches(data: tf.data.Dataset, wanted: int) -> None:
    """Raises `ValueError` if tensors have too few axes to be batches."""
    for spec in tf.nest.flatten(data.element_spec):
        if spec.shape.rank is not None and spec.shape.rank < wanted:
            raise ValueError(
                "A `tf.data.Dataset` must hold batches of rows: call "
                f"`.batch(256)` on it. Received: elements of the shape "
                f"{spec.shape}."
            )


def _least_rank(model: keras.Model) -> int:
    """Returns how many axes a batch of inputs has at least."""
    tensors = keras.tree.flatten(getattr(model, "inputs", None) or [])
    # Keras adds a last axis of 1 where it is missing.
    ranks = [len(each.shape) - (each.shape[-1] == 1) for each in tensors]
    return max(1, min(ranks, default=1))


def pool_size(inputs: Any) -> int:
    """Returns the number of rows of inputs."""
    if isinstance(inputs, tf.data.Dataset):
        return sum(
            len(keras.tree.flatten(batch)[0])
            for batch in inputs.as_numpy_iterator()
        )
    leaves = keras.tree.flatten(inputs)
    if not leaves:
        raise ValueError("`data` must hold rows. Received: none.")
    return len(leaves[0])


def ask(model: Any, inputs: Any) -> np.ndarray:
    """Returns a model's outputs for all rows, `[n, classes]`.

    Args:
        model: a Keras model, or a function of the inputs.
        inputs: arrays, or a `tf.data.Dataset` of batches.
    """
    if isinstance(model, keras.Model):
        if isinstance(inputs, tf.data.Dataset):
            _check_batches(inputs, _least_rank(model))
        return model.predict(inputs, verbose=0)
    if not callable(model):
        raise ValueError(
            "`model` must be a Keras model, or a function from inputs to "
            f"outputs. Received: model={model!r}."
        )
    if isinstance(inputs, tf.data.Dataset):
        return np.concatenate([np.asarray(model(batch)) for batch in inputs])
    return np.asarray(model(inputs))


def log_probabilities(outputs: np.ndarray, from_logits: bool) -> np.ndarray:
    """Returns checked outputs of a model as float64 `[n, classes]`.

    Args:
        outputs: `[n, classes]`.
        from_logits: whether they are logits, or probabilities.

    Raises:
        ValueError: if they are not such numbers.
    """
    values = np.asarray(outputs).astype("float64")
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            "A model must give an output `[rows, classes]`, of 2 classes or "
            f"more. Received: shape={values.shape}."
        )
    # Minus infinity is a logit that forbids a class.
    wrong = np.isnan(values) | (values == np.inf)
    if wrong.any():
        raise ValueError(
            "A model's outputs must be numbers. Received: NaN or infinity at "
            f"row {int(np.argwhere(wrong)[0][0])}."
        )
    if from_logits:
        values = values - values.max(axis=1, keepdims=True)
        return values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    total = values.sum(axis=1, keepdims=True)
    if (values < 0.0).any() or (np.abs(total - 1.0) > _TOLERANCE).any():
        raise ValueError(
            "A model's outputs must be probabilities of classes; if they are "
            "logits, make the selector with `from_logits=True`. Received: "
            f"rows such as {values[0, :4].round(3).tolist()}."
        )
    with np.errstate(divide="ignore"):
        return np.log(values / total)


def check_labels(
    labels: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns the class of each row, int64 `[n]`.

    Args:
        labels: as they were given.
        shape: rows and classes of the models' outputs.

    Raises:
        ValueError: if there are none, or they are no classes of the model.
    """
    size, classes = shape
    if labels is None:
        raise ValueError(
            "Labels are needed to see how far models disagree: give "
            "`data=(inputs, labels)`. Received: inputs alone."
        )
    flat = np.asarray(labels).reshape(-1)
    if len(flat) != size or flat.dtype.kind not in "iu":
        raise ValueError(
            f"Labels must be {size} integers, one for each row. Received: "
            f"{len(flat)} of dtype {flat.dtype}."
        )
    if len(flat) and not (0 <= flat.min() and flat.max() < classes):
        raise ValueError(
            f"Labels must be in [0, {classes}), the model's classes. "
            f"Received: {flat.min()} to {flat.max()}."
        )
    return flat.astype("int64")
