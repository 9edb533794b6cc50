"""The number of tokens that are routed together."""

import math

from keras import ops

from keras_moe.layers.routers._router import Router
from keras_moe.ops.routing._spread_groups import num_shares
from keras_moe.sharding import is_sharded
from keras_moe.types import Tensor


def group_size(router: Router, inputs: Tensor) -> int | Tensor | str | None:
    """Returns the size of groups, as `group_tokens` takes it.

    Args:
        router: the router, whose `group_size` is the user's choice.
        inputs: `[batch, ..., dim]`.

    Raises:
        ValueError: where devices share the batch, if they cannot get equally
            many groups.
    """
    if is_sharded():
        return _shared_group_size(router, inputs)
    if router.group_size != "auto":
        return router.group_size
    num_tokens = 1
    for size in ops.shape(inputs)[:-1]:
        num_tokens = num_tokens * size
    return router.tokens_per_group(num_tokens)


def _shared_group_size(router: Router, inputs: Tensor) -> int | str:
    shape, shares = ops.shape(inputs), num_shares()
    size = router.group_size
    # Without a size, the tokens of each device are one group.
    tokens = math.prod(shape[:-1]) // shares
    if size == "auto":
        size = router.tokens_per_group(tokens)
    size = size or tokens
    units = shape[0] if size == "sequence" else math.prod(shape[:-1])
    per_group = 1 if size == "sequence" else size
    if not per_group or units % (per_group * shares):
        raise ValueError(
            f"Groups must be spread evenly over {shares} devices: the batch "
            "must hold a multiple of as many groups. Received: inputs.shape="
            f"{tuple(shape)}, group_size={size!r}."
        )
    return size
