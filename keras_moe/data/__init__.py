"""Which examples to learn from, and how much each counts."""

from keras_moe.data._introspective_replay import (
    IntrospectiveReplay as IntrospectiveReplay,
)
from keras_moe.data._reverse_replay import ReverseReplay as ReverseReplay
