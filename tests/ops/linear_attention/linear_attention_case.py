"""Inputs of linear attention, and its answer pair by pair."""

import numpy as np
import tensorflow as tf

from keras_moe.ops.linear_attention.bidirectional import bidirectional_attention
from keras_moe.ops.linear_attention.causal import causal_attention
from keras_moe.ops.linear_attention.feature_map import FeatureMap
from keras_moe.ops.linear_attention.segments import segment_attention
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

        self.mode = mode
        features = 2 * DRAWS if antithetic else DRAWS
        self.queries = scale * normal(BATCH, HEADS, group, length, DIM)
        self.keys = scale * normal(BATCH, HEADS, 1, source_length, DIM)
        self.values = normal(BATCH, HEADS, 1, source_length, VALUE_DIM)
        self.log_weights = scale * normal(BATCH, HEADS, 1, source_length)
        self.visible = rng.random((BATCH, source_length)) >= hidden
        self.segment_ids = np.sort(
            rng.integers(1, 5, (BATCH, source_length)), axis=-1
        )
        self.map = FeatureMap(
            normal(HEADS, DRAWS, DIM),
            normal(HEADS, features),
            kernel,
            antithetic,
        )

    @property
    def inputs(self):
        """What gradients are taken of."""
        return [
            tf.constant(x)
            for x in (self.queries, self.keys, self.values, self.log_weights)
        ]

    def run(self, *inputs, **arguments):
        """Outputs for `inputs`, those of the case by default."""
        visible = tf.constant(self.visible[:, None, None, :])
        segments = tf.constant(self.segment_ids[:, None, None, :], tf.int32)
        given = (*(inputs or self.inputs), visible, self.map)
        if self.mode == "bidirectional":
            return bidirectional_attention(*given, **arguments).mean()
        if self.mode == "segments":
            return segment_attention(*given, segments).mean()
        if self.mode == "causal_segments":
            arguments["segment_ids"] = segments
        return causal_attention(*given, **arguments)[0].mean()

    def expected(self):
        """The same pair by pair, in float64."""
        map_ = self.map
        arguments = (map_.projection, map_.kernel, map_.antithetic)
        log_keys = reference.log_features(self.keys, *arguments)
        log_keys = log_keys + np.float64(map_.log_weights)[:, None, None, :]
        seen = reference.seen_pairs(
            self.visible,
            causal=self.mode.startswith("causal"),
            segment_ids=self.segment_ids if "segments" in self.mode else None,
            queries=self.queries.shape[3],
        )
        return reference.attention(
            reference.log_features(self.queries, *arguments),
            log_keys + np.float64(self.log_weights)[..., None],
            np.float64(self.values),
            seen,
        )
