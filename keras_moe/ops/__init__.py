"""Stateless maths on `keras.ops`."""

from keras_moe.ops.capacity import expert_capacity as expert_capacity
from keras_moe.ops.capped_assignment import (
    capped_assignment as capped_assignment,
)
from keras_moe.ops.confidence import entropy_confidence as entropy_confidence
from keras_moe.ops.confidence import softmax_margin as softmax_margin
from keras_moe.ops.confidence import state_saturation as state_saturation
from keras_moe.ops.constrain import constrain as constrain
from keras_moe.ops.count_choices import count_choices as count_choices
from keras_moe.ops.dispatch import gather_combine as gather_combine
from keras_moe.ops.dispatch import gather_dispatch as gather_dispatch
from keras_moe.ops.einsum_dispatch import einsum_combine as einsum_combine
from keras_moe.ops.einsum_dispatch import einsum_dispatch as einsum_dispatch
from keras_moe.ops.expert_choice_routing import (
    expert_choice_routing as expert_choice_routing,
)
from keras_moe.ops.fixed_routing import fixed_routing as fixed_routing
from keras_moe.ops.grouping import group_tokens as group_tokens
from keras_moe.ops.grouping import ungroup_tokens as ungroup_tokens
from keras_moe.ops.random_projection import (
    random_projection as random_projection,
)
from keras_moe.ops.relative_position import (
    relative_position_bucket as relative_position_bucket,
)
from keras_moe.ops.rotary_embedding import rotary_embedding as rotary_embedding
from keras_moe.ops.routing_plan import RoutingPlan as RoutingPlan
from keras_moe.ops.segment_positions import (
    segment_positions as segment_positions,
)
from keras_moe.ops.shift_right import shift_right as shift_right
from keras_moe.ops.soft_routing import soft_routing as soft_routing
from keras_moe.ops.soft_routing_plan import SoftRoutingPlan as SoftRoutingPlan
from keras_moe.ops.top_k_logits import compress_logits as compress_logits
from keras_moe.ops.top_k_logits import expand_logits as expand_logits
from keras_moe.ops.top_k_routing import top_k_routing as top_k_routing
