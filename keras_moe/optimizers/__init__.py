"""Optimizers, and a check of what one of them takes for granted."""

from keras_moe.optimizers._assert_scale_invariant import (
    assert_scale_invariant as assert_scale_invariant,
)
from keras_moe.optimizers._relative_clip_sgd import (
    RelativeClipSGD as RelativeClipSGD,
)
