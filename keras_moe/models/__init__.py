"""Whole models."""

from keras_moe.models.cascade._cascade import Cascade as Cascade
from keras_moe.models.dual_encoder._dual_encoder import (
    DualEncoder as DualEncoder,
)
from keras_moe.models.dual_encoder._mine_hard_negatives import (
    mine_hard_negatives as mine_hard_negatives,
)
from keras_moe.models.dual_encoder._retrieval_evaluation import (
    RetrievalEvaluation as RetrievalEvaluation,
)
from keras_moe.models.switch_transformer._config import (
    SwitchTransformerConfig as SwitchTransformerConfig,
)
from keras_moe.models.switch_transformer._switch_transformer import (
    SwitchTransformer as SwitchTransformer,
)
from keras_moe.moved_names import find_moved

__getattr__ = find_moved(__name__)
