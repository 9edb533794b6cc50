"""The sizes of a T5X checkpoint, which its tensors say."""

import re
from collections.abc import Mapping
from typing import Any

from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.models import SwitchTransformerConfig

TABLE = "token_embedder/embedding"
HEAD = "decoder/logits_dense/kernel"
_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/")
# What holds all layers in one tensor, by the names that T5X and Flaxformer
# have for it.
_STACKED = re.compile(r"(encoder|decoder)/(layers|\1|subblock_\d+)/")


def read_config(
    tensors: Mapping[str, StoredTensor], given: Mapping[str, Any]
) -> SwitchTransformerConfig:
    """Returns the config of the model that the tensors are of.

    Args:
        tensors: by name.
        given: fields of the config that tensors do not say.

    Raises:
        ValueError: for what `SwitchTransformer` cannot express, by name; if
            `given` has a field that the tensors say.
    """
    for name in tensors:
        if _STACKED.match(name):
            raise ValueError(
                "The layers must have tensors of their own, `layers_0` and so "
                "on: stacked ones have a table of distances each, and "
                f"`SwitchTransformer` has one a stack. Received: {name}."
            )
    depths = {stack: _depth(tensors, stack) for stack in ("encoder", "decoder")}
    vocabulary, dim = _shape(tensors, TABLE, 2)
    heads, buckets = _shape(tensors, "encoder/relpos_bias/rel_embedding", 2)
    _, joined = _shape(tensors, "encoder/layers_0/attention/query/kernel", 2)
    if joined % heads:
        raise ValueError(
            "Kernels must be `[inputs, heads * key_dim]`. Received: "
            f"{joined} outputs for {heads} heads."
        )
    every, experts = _sparsity(tensors, depths)
    gated = any(name.endswith("/wi_0/kernel") for name in tensors)
    said: dict[str, Any] = {
        "vocabulary_size": vocabulary,
        "model_dim": dim,
        "num_encoder_layers": depths["encoder"],
        "num_decoder_layers": depths["decoder"],
        "num_heads": heads,
        "key_dim": joined // heads,
        "hidden_dim": _hidden_dim(tensors, every, gated),
        "gated": gated,
        "num_experts": experts,
        "num_relative_buckets": buckets,
        "tie_embeddings": HEAD not in tensors,
        **({"moe_every": every} if experts else {}),
    }
    for field, value in said.items():
        if given.get(field, value) != value:
            raise ValueError(
                f"`{field}` must be {value!r}, which the tensors say. "
                f"Received: {field}={given[field]!r}."
            )
    # T5 1.1's activation is the form with tanh; 1.0 and Switch have ReLU.
    fallback = {"activation": "gelu_tanh" if gated else "relu"}
    return SwitchTransformerConfig(**{**fallback, **given, **said})


def _depth(tensors: Mapping[str, StoredTensor], stack: str) -> int:
    matches = (_LAYER.match(name) for name in tensors)
    found = {int(m[2]) for m in matches if m and m[1] == stack}
    if not found or found != set(range(len(found))):
        raise ValueError(
            f"The {stack} must have layers_0 and those that follow, without a "
            f"gap. Received: {sorted(found)[:20]}."
        )
    return len(found)


def _shape(
    tensors: Mapping[str, StoredTensor], name: str, rank: int
) -> tuple[int, ...]:
    shape = tensors[name].shape if name in tensors else None
    if shape is None or len(shape) != rank:
        raise ValueError(
            f"The checkpoint must hold `{name}`, of {rank} axes. Received: "
            f"{'no such tensor' if shape is None else shape}."
        )
    return shape


def _sparsity(
    tensors: Mapping[str, StoredTensor], depths: Mapping[str, int]
) -> tuple[int, int]:
    """Returns every how many layers one is sparse, and the experts of it."""
    wanted: dict[str, list[int]] = {stack: [] for stack in depths}
    routers = "/mlp/router/router_weights/w/kernel"
    for name in tensors:
        match = _LAYER.match(name)
        if match and name == f"{match[0].rstrip('/')}{routers}":
            wanted[match[1]].append(int(match[2]))
    first = [f"{s}/layers_{n}{routers}" for s, ns in wanted.items() for n in ns]
    if not first:
        return 1, 0
    _, experts = _shape(tensors, first[0], 2)
    for every in range(1, max(depths.values()) + 1):
        if all(
            sorted(wanted[stack]) == list(range(every - 1, depth, every))
            for stack, depth in depths.items()
        ):
            return every, experts
    raise ValueError(
        "The sparse layers must be every n-th, the n-th first, in encoder and "
        f"decoder alike. Received: {sorted(wanted['encoder'])} of "
        f"{depths['encoder']} and {sorted(wanted['decoder'])} of "
        f"{depths['decoder']}, counted from 0."
    )


def _hidden_dim(
    tensors: Mapping[str, StoredTensor], every: int, gated: bool
) -> int:
    kernel = "wi_0" if gated else "wi"
    prefix = "encoder/layers_0/mlp"
    if f"{prefix}/{kernel}/kernel" in tensors or every > 1:
        return _shape(tensors, f"{prefix}/{kernel}/kernel", 2)[1]
    return _shape(tensors, f"{prefix}/expert/{kernel}/kernel", 3)[2]
