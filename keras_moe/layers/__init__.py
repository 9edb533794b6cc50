"""Keras layers."""

from keras_moe.layers.attention._attention_cache import (
    AttentionCache as AttentionCache,
)
from keras_moe.layers.attention._key_value_cache import (
    KeyValueCache as KeyValueCache,
)
from keras_moe.layers.attention._random_feature_attention import (
    RandomFeatureAttention as RandomFeatureAttention,
)
from keras_moe.layers.attention._random_features import (
    RandomFeatures as RandomFeatures,
)
from keras_moe.layers.attention._relative_position_bias import (
    RelativePositionBias as RelativePositionBias,
)
from keras_moe.layers.attention._stateful_attention import (
    StatefulAttention as StatefulAttention,
)
from keras_moe.layers.attention._t5_attention import T5Attention as T5Attention
from keras_moe.layers.attention._tree_attention import (
    TreeAttention as TreeAttention,
)
from keras_moe.layers.memory._sketch_memory import SketchMemory as SketchMemory
from keras_moe.layers.moe._experts import Experts as Experts
from keras_moe.layers.moe._sparse_moe import SparseMoE as SparseMoE
from keras_moe.layers.moe._spliced_block import SplicedBlock as SplicedBlock
from keras_moe.layers.retrieval._mean_pooling import MeanPooling as MeanPooling
from keras_moe.layers.retrieval._retrieval import Retrieval as Retrieval
from keras_moe.layers.routers._bias_balanced_router import (
    BiasBalancedRouter as BiasBalancedRouter,
)
from keras_moe.layers.routers._expert_choice_router import (
    ExpertChoiceRouter as ExpertChoiceRouter,
)
from keras_moe.layers.routers._hash_router import HashRouter as HashRouter
from keras_moe.layers.routers._locality_hash_router import (
    LocalityHashRouter as LocalityHashRouter,
)
from keras_moe.layers.routers._router import Router as Router
from keras_moe.layers.routers._soft_router import SoftRouter as SoftRouter
from keras_moe.layers.routers._switch_router import SwitchRouter as SwitchRouter
from keras_moe.layers.routers._top_k_router import TopKRouter as TopKRouter
from keras_moe.layers.scale_invariant._scale_invariant_attention import (
    ScaleInvariantAttention as ScaleInvariantAttention,
)
from keras_moe.layers.scale_invariant._scale_invariant_block import (
    ScaleInvariantBlock as ScaleInvariantBlock,
)
from keras_moe.layers.selection._select_features import (
    SelectFeatures as SelectFeatures,
)
from keras_moe.layers.selection._sequential_attention import (
    SequentialAttention as SequentialAttention,
)
from keras_moe.layers.transformer._activation_sparsity import (
    ActivationSparsity as ActivationSparsity,
)
from keras_moe.layers.transformer._decoder_block import (
    DecoderBlock as DecoderBlock,
)
from keras_moe.layers.transformer._decoder_block import (
    DecoderBlockState as DecoderBlockState,
)
from keras_moe.layers.transformer._encoder_block import (
    EncoderBlock as EncoderBlock,
)
from keras_moe.layers.transformer._feed_forward import (
    FeedForward as FeedForward,
)
from keras_moe.layers.transformer._layer_dropout import (
    LayerDropout as LayerDropout,
)
from keras_moe.layers.transformer._top_k_activation import (
    TopKActivation as TopKActivation,
)
