"""Carrying out a routing plan with as many rows as there are tokens.

No slot is padded and no expert computes for nothing, but the number of rows of
each expert is known at run time alone. TensorFlow's graphs allow that, XLA
does not. TensorFlow 2.21 and Keras 3.15 have no grouped matrix product, so
there is one product an expert.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_moe.ops._batched_take import batched_take
from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._broken_rows import with_sentinel_rows
from keras_moe.ops.routing._routing_plan import RoutingPlan
from keras_moe.types import Tensor


class RaggedRows(NamedTuple):
    """The filled slots of a plan, expert by expert, as rows of a matrix.

    Attributes:
        token_index: int32 `[n]`, the token of each row in the flattened batch;
            `g * s` for a row that only fills up.
        row_index: int32 `[g * s, k]`, its inverse: the row of each choice of a
            token; `n` for a choice that was dropped or never made.
        broken: bool `[g * s, 1]`, the tokens without probabilities.
        combine_weight: float32 `[n]`; 0 for a row that only fills up.
        row_count: int32 `[e]`, how many rows each expert has.
    """

    token_index: Tensor
    row_index: Tensor
    broken: Tensor
    combine_weight: Tensor
    row_count: Tensor


def ragged_rows(plan: RoutingPlan) -> RaggedRows:
    """Leaves the empty slots out of a plan, but for a few.

    Many rows are filled up to a multiple, with zeros that weigh nothing: a
    matrix product of a shape that was never seen before costs TensorFlow
    milliseconds, and queues differ from batch to batch. (Any token in their
    place might be NaN, and spoil the gradient of each expert's kernel.)
    """
    groups, experts, slots = tf.unstack(tf.shape(plan.token_index))
    tokens, choices = tf.unstack(tf.shape(plan.slot_index)[1:])
    seats = groups * experts * slots
    filled = plan.token_index < tokens
    queue = tf.reduce_sum(tf.cast(filled, tf.int32), axis=(0, 2))  # [e]
    multiple = _multiple(tf.reduce_sum(queue) // experts)
    row_count = -(-queue // multiple) * multiple
    num_rows = tf.reduce_sum(row_count)
    start = tf.cumsum(row_count, exclusive=True)

    # The row of each slot, expert by expert: [e, g * c]
    in_order = _by_expert(filled, experts)
    rank = tf.cumsum(tf.cast(in_order, tf.int32), axis=1, exclusive=True)
    row = tf.where(in_order, start[:, tf.newaxis] + rank, num_rows)
    # The slot of each row, [n]; a row of padding has `seats`, the first index
    # past the last slot.
    slot_of_row = tf.tensor_scatter_nd_update(
        tf.fill([num_rows + 1], seats),
        tf.reshape(row, (-1, 1)),
        tf.range(seats),
    )[:num_rows]

    offset = tf.reshape(tf.range(groups) * tokens, (-1, 1, 1))
    token = _by_expert(plan.token_index + offset, experts)
    weight = _by_expert(plan.combine_weight, experts)
    row = tf.reshape(row, (experts, groups, slots))
    row = tf.reshape(tf.transpose(row, (1, 0, 2)), (groups, experts * slots))
    row = tf.pad(row, ((0, 0), (0, 1)), constant_values=num_rows)
    row_index = batched_take(row, plan.slot_index)  # [g, s, k]
    return RaggedRows(
        token_index=tf.gather(
            _with_one_more(token, groups * tokens), slot_of_row
        ),
        row_index=tf.reshape(row_index, (-1, choices)),
        broken=tf.reshape(broken_rows(plan.probabilities), (-1, 1)),
        combine_weight=tf.gather(_with_one_more(weight), slot_of_row),
        row_count=row_count,
    )


def _by_expert(slots: Tensor, experts: Tensor) -> Tensor:
    """Turns `[g, e, c]` into `[e, g * c]`."""
    return tf.reshape(tf.transpose(slots, (1, 0, 2)), (experts, -1))


def _with_one_more(slots: Tensor, value: Tensor | float = 0.0) -> Tensor:
    """Flattens, and appends a value for rows that hold no slot."""
    flat = tf.reshape(slots, (-1,))
    return tf.pad(flat, ((0, 1),), constant_values=tf.cast(value, flat.dtype))


def _multiple(mean_rows: Tensor) -> Tensor:
    """Returns the multiple that row counts are rounded up to, 3 % at most."""
    return tf.where(mean_rows >= 256, 16, tf.where(mean_rows >= 128, 8, 1))


def ragged_dispatch(tokens: Tensor, rows: RaggedRows) -> Tensor:
    """Copies `[g, s, d]` into rows `[n, d]`.

    Its transpose is `ragged_combine`, and so is its gradient.
    """
    shape = tf.shape(tokens)

    @tf.custom_gradient
    def gather(x):
        def gradient(upstream):
            upstream = with_sentinel_rows(upstream)
            return tf.reshape(_sum_of_rows(upstream, rows.row_index), shape)

        return _rows_of(x, rows, x.shape[-1]), gradient

    return gather(tokens)


def ragged_combine(outputs: Tensor, rows: RaggedRows, like: Tensor) -> Tensor:
    """Sums the weighted rows `[n, d]` of each token: `[g, s, d]` as `like`."""
    weight = tf.cast(rows.combine_weight, outputs.dtype)

    @tf.custom_gradient
    def gather(x):
        def gradient(upstream):
            return _rows_of(upstream, rows, x.shape[-1])

        # Broken tokens have no row: they read the one after the sentinel's.
        index = tf.where(rows.broken, tf.shape(x)[0] + 1, rows.row_index)
        return _sum_of_rows(with_sentinel_rows(x, nan=True), index), gradient

    summed = gather(outputs * tf.expand_dims(weight, -1))
    return tf.reshape(summed, tf.shape(like))


def apply_by_expert(
    inputs: Tensor, rows: RaggedRows, experts: Sequence[Callable]
) -> Tensor:
    """Applies each expert, a function of `[m, d]`, to its own rows."""
    parts = tf.split(inputs, rows.row_count, num=len(experts))
    pairs = zip(experts, parts, strict=True)
    return tf.concat([expert(part) for expert, part in pairs], axis=0)


def _rows_of(tokens: Tensor, rows: RaggedRows, dim: int) -> Tensor:
    """Gathers `[..., d]` into `[n, d]`, zeros where a row only fills up."""
    flat = tf.reshape(tokens, (-1, dim))
    return tf.gather(with_sentinel_rows(flat), rows.token_index)


def _sum_of_rows(x: Tensor, row_index: Tensor) -> Tensor:
    """Gathers `[n, d]` into `[g * s, d]`, summed over choices."""
    return tf.reduce_sum(tf.gather(x, row_index), axis=1)
