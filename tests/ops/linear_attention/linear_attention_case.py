"""Inputs of linear attention, and its answer pair by pair."""

import numpy as np
import tensorflow as tf

from keras_moe.ops.linear_attention._bidirectional import (
    bidirectional_attention,
)
from keras_moe.ops.linear_attention._causal import causal_attention
from keras_moe.ops.linear_attention._feature_map import FeatureMap
from keras_moe.ops.linear_attention._segments import segment_attention
from tests.reference import linear_attention as reference

BATCH, HEADS, DIM, VALUE_DIM, DRAWS = 2, 2, 6, 5, 12


class Case:
    """Random inputs of one kind.

    `mode` is `"bidirectional"`, `"causal"`, `"causal_segments"` or
    `"segments"`.
    """

    def __init__(
        self,
        mode="bidirectional",
        kernel="softmax",
        antithetic=False,
        length=21,
        source_length=None,
        group=2,
        scale=1.0,
        hidden=0.3,
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        source_length = source_length or length

        def normal(*shape):
            return rng.normal(size=shape).astype("float32")

        def zeros(features):
            return np.zeros((HEADS, features), "float32")

        self.mode = mode
        features = 2 * DRAWS if antithetic else DRAWS
        self.queries = scale * normal(BATCH, HEADS, group, length, DIM)
        self.keys = scale * normal(BATCH, HEADS, 1, source_length, DIM)
        self.values = normal(BATCH, HEADS, 1, source_length, VALUE_DIM)
        self.visible = None
        if hidden:
            self.visible = rng.random((BATCH, source_length)) >= hidden
        self.segment_ids = np.sort(
            rng.integers(1, 5, (BATCH, source_length)), axis=-1
        )
        per_dimension = (HEADS, 1, 1, DIM)
        self.map = FeatureMap(
            normal(HEADS, DRAWS, DIM),
            normal(HEADS, features) if kernel == "softmax" else zeros(features),
            np.exp(0.3 * normal(*per_dimension)),
            normal(*per_dimension),
            np.exp(0.3 * normal(*per_dimension)),
            normal(*per_dimension),
            normal(*per_dimension),
            kernel,
            antithetic,
        )

    @property
    def inputs(self):
        """What gradients are taken of."""
        return [tf.constant(x) for x in (self.queries, self.keys, self.values)]

    def run(self, *inputs, **arguments):
        """Outputs for `inputs`, those of the case by default."""
        visible = None
        if self.visible is not None:
            visible = tf.constant(self.visible[:, None, None, :])
        segments = tf.constant(self.segment_ids[:, None, None, :], tf.int32)
        given = (*(inputs or self.inputs), visible, self.map)
        if self.mode == "bidirectional":
            return bidirectional_attention(*given, **arguments)
        if self.mode == "segments":
            return segment_attention(*given, segments).mean()
        if self.mode == "causal_segments":
            arguments["segment_ids"] = segments
        return causal_attention(*given, **arguments)[0].mean()

    def expected(self):
        """The same pair by pair, in float64."""
        visible = self.visible
        if visible is None:
            visible = np.ones((BATCH, self.keys.shape[3]), bool)
        seen = reference.seen_pairs(
            visible,
            causal=self.mode.startswith("causal"),
            segment_ids=self.segment_ids if "segments" in self.mode else None,
            queries=self.queries.shape[3],
        )
        return reference.attention(
            reference.log_queries(self.queries, self.map),
            reference.log_keys(self.keys, self.map),
            np.float64(self.values),
            seen,
        )
