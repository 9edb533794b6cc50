"""The next stage, on those rows alone that were deferred."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.keras_internals import get_mask
from keras_moe.keras_internals import set_mask
from keras_moe.types import Tensor


def refine(
    answers: Any,
    deferred: Tensor,
    inputs: Any,
    stage: Callable[[Any], Any],
    sizes: Sequence[int],
) -> Any:
    """Replaces the answers of deferred rows by those of another stage.

    The stage sees the deferred rows alone. A batch without any does not run
    it. Where shapes must be static, deferred rows come first and are padded
    with others to the next of a few sizes, whose answers are thrown away: one
    program for each size, and one for none.

    Args:
        answers: tensors `(batch, ...)`, nested.
        deferred: bool `(batch,)`.
        inputs: of the stage, tensors `(batch, ...)`, nested.
        stage: gives answers of the same structure, shapes and dtypes.
        sizes: numbers of rows, increasing, for static shapes.

    Returns:
        Answers as given, but for those of deferred rows.
    """
    if keras.backend.backend() == "tensorflow" and not shapes_must_be_static():
        return _refine_dynamic(answers, deferred, inputs, stage)
    # Stable: rows keep their order among those that are deferred.
    order = ops.argsort(ops.cast(~deferred, "int32"), axis=0)
    count = ops.sum(ops.cast(deferred, "int32"))

    def replace(rows: Tensor) -> Any:
        return _replace(answers, deferred, inputs, stage, rows)

    batch = deferred.shape[0]
    if batch is None:
        parts = _parts_known_to_xla(answers, deferred, order, sizes, replace)
    else:
        # Larger ones would compute for nobody.
        sizes = [size for size in sizes if size < batch]
        parts = [functools.partial(replace, order[:size]) for size in sizes]
        parts.append(functools.partial(replace, order))
    branch = ops.sum(ops.cast(ops.array([0, *sizes]) < count, "int32"))
    return _switch(branch, [lambda: answers, *parts])


def _parts_known_to_xla(
    answers: Any,
    deferred: Tensor,
    order: Tensor,
    sizes: Sequence[int],
    replace: Callable[[Tensor], Any],
) -> list[Callable[[], Any]]:
    """Returns the programs for a batch whose size XLA alone will know.

    XLA knows all shapes, and drops the branches of a choice that it can make
    itself: here those of all sizes but one that are not below the batch. The
    stage is traced once for all of them.
    """
    import tensorflow as tf

    below = tf.reduce_sum(
        tf.cast(tf.constant(sizes) < tf.shape(deferred)[0], tf.int32)
    )
    traced = tf.function(
        replace,
        input_signature=[tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )

    def part(number: int, rows: Tensor) -> Any:
        is_larger = tf.cast(number > below, tf.int32)
        return tf.switch_case(
            is_larger, [lambda: traced(rows), lambda: answers]
        )

    rows = [*(order[:size] for size in sizes), order]
    return [functools.partial(part, *each) for each in enumerate(rows)]


def _refine_dynamic(
    answers: Any, deferred: Tensor, inputs: Any, stage: Callable[[Any], Any]
) -> Any:
    import tensorflow as tf

    rows = tf.cast(tf.where(deferred)[:, 0], tf.int32)
    return tf.cond(
        tf.reduce_any(deferred),
        lambda: _replace(answers, deferred, inputs, stage, rows),
        lambda: answers,
    )


def _replace(
    answers: Any,
    deferred: Tensor,
    inputs: Any,
    stage: Callable[[Any], Any],
    rows: Tensor,
) -> Any:
    """Returns answers with those of deferred rows among `rows` replaced."""
    replaced = stage(take_rows(inputs, rows))
    check_alike(answers, replaced)
    wanted = ops.take(deferred, rows, axis=0)
    index = ops.expand_dims(rows, -1)

    def put(before: Tensor, after: Tensor) -> Tensor:
        trailing = [1] * (len(before.shape) - 1)
        keep = ops.reshape(wanted, [-1, *trailing])
        old = ops.take(before, rows, axis=0)
        return ops.scatter_update(before, index, ops.where(keep, after, old))

    return keras.tree.map_structure(put, answers, replaced)


def take_rows(inputs: Any, rows: Tensor) -> Any:
    """Returns rows of tensors `(batch, ...)`, nested, with their masks."""

    def take(tensor: Tensor) -> Tensor:
        taken = ops.take(tensor, rows, axis=0)
        mask = get_mask(tensor)
        if mask is not None:
            set_mask(taken, ops.take(mask, rows, axis=0))
        return taken

    return keras.tree.map_structure(take, inputs)


def check_alike(answers: Any, replaced: Any) -> None:
    """Raises `ValueError` unless two stages answer in one form."""
    keras.tree.assert_same_structure(answers, replaced)
    for before, after in zip(
        keras.tree.flatten(answers), keras.tree.flatten(replaced), strict=True
    ):
        shapes = tuple(before.shape[1:]), tuple(after.shape[1:])
        if shapes[0] != shapes[1] or before.dtype != after.dtype:
            raise ValueError(
                "Stages must give outputs of one shape and dtype. Received: "
                f"{before.dtype} (batch, *{shapes[0]}) and {after.dtype} "
                f"(batch, *{shapes[1]})."
            )


def _switch(branch: Tensor, functions: list[Callable[[], Any]]) -> Any:
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.switch_case(branch, functions)
    return ops.switch(branch, functions)
