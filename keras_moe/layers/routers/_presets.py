"""Routers by name: the settings of the papers.

Routers that send a token to two experts send it to one where a layer has only
one expert.
"""

import functools
from collections.abc import Callable

from keras_moe.layers.routers._bias_balanced_router import BiasBalancedRouter
from keras_moe.layers.routers._expert_choice_router import ExpertChoiceRouter
from keras_moe.layers.routers._hash_router import HashRouter
from keras_moe.layers.routers._locality_hash_router import LocalityHashRouter
from keras_moe.layers.routers._router import Router
from keras_moe.layers.routers._soft_router import SoftRouter
from keras_moe.layers.routers._switch_router import SwitchRouter
from keras_moe.layers.routers._top_k_router import TopKRouter


def _top_2(router: type[TopKRouter], num_experts: int, **kwargs) -> Router:
    kwargs = {"num_selected_experts": min(2, num_experts), **kwargs}
    return router(num_experts, **kwargs)


def _gshard(num_experts: int, **kwargs) -> Router:
    # The loss of algorithm 1 counts first choices alone; GLaM takes it over.
    kwargs = {
        "second_expert_policy": "random",
        "num_balanced_choices": 1,
        "router_z_loss_weight": 0.0,
        "jitter_noise": 0.0,
        **kwargs,
    }
    return _top_2(TopKRouter, num_experts, **kwargs)


def _glam(num_experts: int, **kwargs) -> Router:
    kwargs = {
        "num_balanced_choices": 1,
        "router_z_loss_weight": 0.0,
        "jitter_noise": 0.0,
        **kwargs,
    }
    return _top_2(TopKRouter, num_experts, **kwargs)


def _st_moe(num_experts: int, **kwargs) -> Router:
    return _top_2(TopKRouter, num_experts, **kwargs)


def _v_moe(num_experts: int, **kwargs) -> Router:
    kwargs = {
        "priority": "batch_prioritized",
        "normalization": "none",
        "router_z_loss_weight": 0.0,
        "jitter_noise": 0.0,
        **kwargs,
    }
    return _top_2(TopKRouter, num_experts, **kwargs)


ROUTERS: dict[str, Callable[..., Router]] = {
    # The z-loss came later, with ST-MoE.
    "switch": functools.partial(SwitchRouter, router_z_loss_weight=0.0),
    "gshard": _gshard,
    "glam": _glam,
    "st_moe": _st_moe,
    "v_moe": _v_moe,
    "top_k": functools.partial(_top_2, TopKRouter),
    "bias_balanced": functools.partial(_top_2, BiasBalancedRouter),
    "expert_choice": ExpertChoiceRouter,
    "soft": SoftRouter,
    "hash": HashRouter,
    "locality_hash": LocalityHashRouter,
}
