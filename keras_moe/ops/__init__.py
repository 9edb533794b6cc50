"""Stateless maths on `keras.ops`."""

from keras_moe.ops.capacity import expert_capacity as expert_capacity
from keras_moe.ops.dispatch import gather_combine as gather_combine
from keras_moe.ops.dispatch import gather_dispatch as gather_dispatch
from keras_moe.ops.grouping import group_tokens as group_tokens
from keras_moe.ops.grouping import ungroup_tokens as ungroup_tokens
from keras_moe.ops.relative_position import (
    relative_position_bucket as relative_position_bucket,
)
from keras_moe.ops.routing_plan import RoutingPlan as RoutingPlan
from keras_moe.ops.shift_right import shift_right as shift_right
from keras_moe.ops.top_k_routing import top_k_routing as top_k_routing
