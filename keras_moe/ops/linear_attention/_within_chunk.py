"""Causal attention within a chunk, by halving.

Row `l` sees keys up to `l`, and its scales may come from these alone: from a
maximum over the whole chunk a later key would change its rounding, and a large
one would drown all it sees. So a chunk is halved again and again: at each level
the queries of each right half see all keys of the left half, and none sees part
of it. With the key of the row itself that is every pair, once.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from keras import ops

from keras_moe.ops.linear_attention._partial_attention import EMPTY
from keras_moe.ops.linear_attention._partial_attention import PartialAttention
from keras_moe.ops.linear_attention._state import key_scale
from keras_moe.ops.linear_attention._state import scale_keys
from keras_moe.types import Tensor

# Blocks up to this size are not halved but computed pair by pair.
NEAREST = 8


class Chunk(NamedTuple):
    """Keys and queries of one chunk; its size is a power of two.

    Attributes:
        log_queries: `[b, n, g, t, features]`.
        log_keys: `[b, n, 1, t, features]`.
        values: `[b, n, 1, t, value_dim + 1]`.
        visible: bool `[b, 1, 1, t]`, false for hidden keys, or `None`.
        segment_ids: int `[b, 1, 1, t]`, or `None`; equal ones are adjacent. A
            row sees keys of its own.
        strict: whether a row does not see its own key.
    """

    log_queries: Tensor
    log_keys: Tensor
    values: Tensor
    visible: Tensor | None
    segment_ids: Tensor | None
    strict: bool = False

    def attend(self, before: PartialAttention) -> PartialAttention:
        """Returns what rows gathered before, and from the chunk's keys."""
        gathered = before.merge(self._nearest())
        for level in self._levels():
            parts = PartialAttention(
                *(_blocks(x, 2, level.size) for x in gathered)
            )
            left, right = (
                PartialAttention(*(x[:, :, :, :, half] for x in parts))
                for half in (0, 1)
            )
            right = right.merge(level.attend())
            gathered = PartialAttention(*map(_whole, left, right))
        return gathered

    def gradient(
        self, log_scale: Tensor, d_sums: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of log-queries, log-keys and values.

        Args:
            log_scale: of the rows, as `attend` returned it.
            d_sums: upstream, `[b, n, g, t, value_dim + 1]`.
        """
        d_queries, d_keys, d_values = self._nearest_gradient(log_scale, d_sums)
        for level in self._levels():
            d_right, *d_left = level.gradient(
                *(
                    _blocks(x, 2, level.size)[:, :, :, :, 1]
                    for x in (log_scale, d_sums)
                )
            )
            d_queries = d_queries + _whole(ops.zeros_like(d_right), d_right)
            d_keys, d_values = (
                total + _whole(d, ops.zeros_like(d))
                for total, d in zip((d_keys, d_values), d_left, strict=True)
            )
        return d_queries, d_keys, d_values

    @property
    def _nearest_size(self) -> int:
        return min(NEAREST, self.log_keys.shape[3])

    def _nearest_logits(self) -> Tensor:
        """Returns the log-weight of each pair in the smallest blocks.

        Returns:
            `[b, n, g, blocks, t, t, features]`, query before key.
        """
        size = self._nearest_size
        queries, keys = (
            _blocks(x, size) for x in (self.log_queries, self.log_keys)
        )
        # TensorFlow cannot broadcast groups and positions in one addition.
        keys = ops.broadcast_to(keys, ops.shape(queries))
        logits = queries[..., :, None, :] + keys[..., None, :, :]
        position = ops.arange(size)
        after = ops.expand_dims(position, 1)
        before = ops.expand_dims(position, 0)
        seen = (after > before) if self.strict else (after >= before)
        if self.visible is not None:
            seen = seen & _blocks(self.visible, size)[..., None, :]
        if self.segment_ids is not None:
            ids = _blocks(self.segment_ids, size)
            seen = seen & (ids[..., :, None] == ids[..., None, :])
        return ops.where(seen[..., None], logits, EMPTY)

    def _nearest(self) -> PartialAttention:
        """Returns what rows gather from the smallest blocks, pair by pair."""
        logits = self._nearest_logits()
        scale = ops.max(logits, axis=(-2, -1))
        weights = ops.exp(logits - scale[..., None, None])
        # In a row without a visible key every logit equals the maximum, EMPTY,
        # and exp(0) = 1: set its weights to 0.
        weights = ops.where(scale[..., None] > EMPTY, ops.sum(weights, -1), 0.0)
        values = _blocks(self.values, self._nearest_size)
        return PartialAttention(
            _joined(ops.matmul(weights, values)), _joined(scale)
        )

    def _nearest_gradient(
        self, log_scale: Tensor, d_sums: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_scale, d_sums, values = (
            _blocks(x, self._nearest_size)
            for x in (log_scale, d_sums, self.values)
        )
        logits = self._nearest_logits()
        # A hidden pair must have no weight, even in a row without a visible
        # key, where exp(EMPTY - EMPTY) = 1.
        features = ops.exp(logits - log_scale[..., None, None])
        features = ops.where(logits > EMPTY, features, 0.0)
        weights = ops.sum(features, axis=-1)
        d_weights = ops.matmul(d_sums, ops.swapaxes(values, -1, -2))
        d_logits = features * d_weights[..., None]
        d_values = ops.matmul(ops.swapaxes(weights, -1, -2), d_sums)
        return (
            _joined(ops.sum(d_logits, axis=-2)),
            _joined(ops.expand_dims(ops.sum(d_logits, axis=(2, -3)), 2)),
            _joined(ops.sum(d_values, axis=2, keepdims=True)),
        )

    def _levels(self) -> Iterator["_Level"]:
        size = self._nearest_size
        while size < self.log_keys.shape[3]:
            queries, keys, values = (_blocks(x, 2, size) for x in self[:3])
            visible = seen = None
            if self.visible is not None:
                visible = _blocks(self.visible, 2, size)[:, :, :, :, 0]
            if self.segment_ids is not None:
                ids = _blocks(self.segment_ids, 2, size)
                # Segments do not interleave: a row that sees any key of the
                # left half is of the segment that reaches over the middle.
                middle = ids[:, :, :, :, 0, -1:]
                own = ids[:, :, :, :, 0] == middle
                visible = own if visible is None else visible & own
                seen = ids[:, :, :, :, 1] == middle
            yield _Level(
                queries[:, :, :, :, 1],
                keys[:, :, :, :, 0],
                values[:, :, :, :, 0],
                visible,
                seen,
            )
            size *= 2


class _Level(NamedTuple):
    """Queries of right halves, keys of left halves: `[b, n, g, p, t, .]`."""

    log_queries: Tensor
    log_keys: Tensor
    values: Tensor
    visible: Tensor | None
    seen: Tensor | None

    @property
    def size(self) -> int:
        """Positions in a half."""
        return self.log_keys.shape[4]

    def attend(self) -> PartialAttention:
        """Returns what right halves gather from left halves."""
        key_max = key_scale(self.log_keys, self.visible)
        logits = self.log_queries + key_max[..., None, :]
        scale = ops.max(logits, axis=-1)
        queries = ops.exp(logits - scale[..., None])
        keys = scale_keys(self.log_keys, key_max, self.visible)
        # Half a chunk has few keys: weighing pairs is cheaper than summing keys
        # by feature.
        weights = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
        sums = ops.matmul(weights, self.values)
        return PartialAttention(sums, scale).hide(self.seen)

    def gradient(
        self, log_scale: Tensor, d_sums: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradients of log-queries, log-keys and values."""
        key_max = key_scale(self.log_keys, self.visible)
        logits = self.log_queries + key_max[..., None, :] - log_scale[..., None]
        if self.seen is not None:
            logits = ops.where(self.seen[..., None], logits, EMPTY)
        queries = ops.exp(logits)
        keys = scale_keys(self.log_keys, key_max, self.visible)
        weights = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
        d_weights = ops.matmul(d_sums, ops.swapaxes(self.values, -1, -2))
        d_keys = ops.matmul(ops.swapaxes(d_weights, -1, -2), queries) * keys
        d_values = ops.matmul(ops.swapaxes(weights, -1, -2), d_sums)
        return (
            ops.matmul(d_weights, keys) * queries,
            ops.sum(d_keys, axis=2, keepdims=True),
            ops.sum(d_values, axis=2, keepdims=True),
        )


def _blocks(x: Tensor, *sizes: int) -> Tensor:
    """Returns `[b, n, g, blocks, *sizes, ...]` for `[b, n, g, t, ...]`."""
    shape = ops.shape(x)
    count = shape[3] // math.prod(sizes)
    return ops.reshape(x, (*shape[:3], count, *sizes, *shape[4:]))


def _joined(x: Tensor) -> Tensor:
    """Returns `[b, n, g, t, ...]` for `[b, n, g, blocks, size, ...]`."""
    shape = ops.shape(x)
    return ops.reshape(x, (*shape[:3], shape[3] * shape[4], *shape[5:]))


def _whole(left: Tensor, right: Tensor) -> Tensor:
    """Returns `[b, n, g, t, ...]` for halves `[b, n, g, blocks, size, ...]`."""
    return _joined(ops.concatenate([left, right], axis=4))
