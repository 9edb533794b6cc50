"""Whole models."""

from keras_moe.models.early_exit_trainer import (
    EarlyExitTrainer as EarlyExitTrainer,
)
from keras_moe.models.exit_classifier_trainer import (
    ExitClassifierTrainer as ExitClassifierTrainer,
)
from keras_moe.models.switch_transformer.config import (
    SwitchTransformerConfig as SwitchTransformerConfig,
)
from keras_moe.models.switch_transformer.switch_transformer import (
    SwitchTransformer as SwitchTransformer,
)
