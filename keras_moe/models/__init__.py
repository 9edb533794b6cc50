"""Whole models."""

from keras_moe.models.switch_transformer._config import (
    SwitchTransformerConfig as SwitchTransformerConfig,
)
from keras_moe.models.switch_transformer._switch_transformer import (
    SwitchTransformer as SwitchTransformer,
)
