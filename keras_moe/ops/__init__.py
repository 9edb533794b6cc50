"""Stateless maths on `keras.ops`."""

from keras_moe.ops._confidence import entropy_confidence as entropy_confidence
from keras_moe.ops._confidence import softmax_margin as softmax_margin
from keras_moe.ops._confidence import state_saturation as state_saturation
from keras_moe.ops._constrain import constrain as constrain
from keras_moe.ops._gelu_tanh import gelu_tanh as gelu_tanh
from keras_moe.ops._relative_position import (
    relative_position_bucket as relative_position_bucket,
)
from keras_moe.ops._rotary_embedding import rotary_embedding as rotary_embedding
from keras_moe.ops._segment_positions import (
    segment_positions as segment_positions,
)
from keras_moe.ops._shift_right import shift_right as shift_right
from keras_moe.ops._top_k_logits import compress_logits as compress_logits
from keras_moe.ops._top_k_logits import expand_logits as expand_logits
from keras_moe.ops.linear_attention._random_projection import (
    random_projection as random_projection,
)
from keras_moe.ops.routing._capacity import expert_capacity as expert_capacity
from keras_moe.ops.routing._capped_assignment import (
    capped_assignment as capped_assignment,
)
from keras_moe.ops.routing._count_choices import count_choices as count_choices
from keras_moe.ops.routing._dispatch import gather_combine as gather_combine
from keras_moe.ops.routing._dispatch import gather_dispatch as gather_dispatch
from keras_moe.ops.routing._einsum_dispatch import (
    einsum_combine as einsum_combine,
)
from keras_moe.ops.routing._einsum_dispatch import (
    einsum_dispatch as einsum_dispatch,
)
from keras_moe.ops.routing._expert_choice_routing import (
    expert_choice_routing as expert_choice_routing,
)
from keras_moe.ops.routing._fixed_routing import fixed_routing as fixed_routing
from keras_moe.ops.routing._grouping import group_tokens as group_tokens
from keras_moe.ops.routing._grouping import ungroup_tokens as ungroup_tokens
from keras_moe.ops.routing._routing_plan import RoutingPlan as RoutingPlan
from keras_moe.ops.routing._soft_routing import soft_routing as soft_routing
from keras_moe.ops.routing._soft_routing_plan import (
    SoftRoutingPlan as SoftRoutingPlan,
)
from keras_moe.ops.routing._top_k_routing import top_k_routing as top_k_routing
from keras_moe.ops.top_k._choose_bins import Bins as Bins
from keras_moe.ops.top_k._choose_bins import choose_bins as choose_bins
from keras_moe.ops.top_k._expected_recall import (
    expected_recall as expected_recall,
)
from keras_moe.ops.top_k._merge_top_k import merge_top_k as merge_top_k
from keras_moe.ops.top_k._partial_reduce_top_k import (
    partial_reduce_top_k as partial_reduce_top_k,
)
