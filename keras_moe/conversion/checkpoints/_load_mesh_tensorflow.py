"""mesh-tensorflow's checkpoints become models of ours."""

import functools
import os
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_moe.conversion.checkpoints._assign_origins import Progress
from keras_moe.conversion.checkpoints._assign_origins import assign_origins
from keras_moe.conversion.checkpoints._assign_origins import check_origins
from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.keras_internals import zeros_for_random_values
from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig
from keras_moe.weights import named_weights
from keras_moe.weights._named_weights import without_state

# What the optimizer and the training keep beside the weights.
_NOT_WEIGHTS = re.compile(r"_slot_|^global_step$")
_LAYER = re.compile(r"(encoder|decoder)/(block_\d+/layer_\d+)/(\w+)/")
_ATTENTIONS = {
    "encoder": {"attention": "SelfAttention"},
    "decoder": {
        "self_attention": "SelfAttention",
        "cross_attention": "EncDecAttention",
    },
}
_NORMS = ("rms_norm", "layer_norm", "final_layer_norm")
_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "output": "o"}


def load_mesh_tensorflow(
    prefix: str | os.PathLike,
    config: SwitchTransformerConfig,
    *,
    dtype: Any = None,
    progress: Progress | None = None,
) -> SwitchTransformer:
    """Loads a checkpoint of mesh-tensorflow's encoder-decoders.

    T5 and Switch Transformers as their authors trained them: `shared/embedding`
    and `encoder/block_000/layer_000/...`, dense or with `MoE1D`, with the norms
    of either style. The optimizer's slots are left where they are.

    Logits are equal to theirs where no expert is full. They drop tokens in
    evaluation, too (`capacity_factor_eval`), across the rows of a batch.

    Args:
        prefix: of the checkpoint, `"model.ckpt-1000"`, without `.index`.
        config: the model's sizes, which such a checkpoint does not say.
            `vocabulary_size` is that of the table, often padded to a multiple
            of 128; experts have the inner size of dense layers.
        dtype: dtype or policy of the model. Tensors of another float are cast.
        progress: called with the name of each weight, before it is read, and
            the names of the tensors that it is made of.

    Returns:
        The model, with every weight set and every tensor used once.

    Raises:
        ValueError: if there is no such checkpoint, or it is damaged; if its
            layers, names or shapes are not those of `config`. There is no
            model then.

    Example:

    >>> config = keras_moe.models.SwitchTransformerConfig(vocabulary_size=128)
    >>> try:
    ...     keras_moe.conversion.load_mesh_tensorflow("x", config)
    ... except ValueError as error:
    ...     print(error)
    `prefix` must be that of a checkpoint. Received: prefix='x', no x.index.
    """
    tensors = _open(os.fspath(prefix))
    origins = _origins(config, tensors)
    with zeros_for_random_values():
        model = SwitchTransformer(config, dtype=dtype)
        weights = without_state(named_weights(model), model)
        # No weight has memory before the context ends.
        check_origins(weights, origins, tensors)
    try:
        assign_origins(weights, origins, tensors, progress)
    except tf.errors.OpError as error:
        raise ValueError(
            f"The checkpoint {prefix} must be whole. Received: {error.message}."
        ) from error
    return model


def _open(prefix: str) -> dict[str, StoredTensor]:
    if not os.path.exists(prefix + ".index"):
        raise ValueError(
            f"`prefix` must be that of a checkpoint. Received: {prefix=}, no "
            f"{os.path.basename(prefix)}.index."
        )
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"The checkpoint {prefix} must be whole. Received: {error}."
        ) from error

    @functools.lru_cache(maxsize=1)  # the one that is being read in parts
    def restore(name: str) -> np.ndarray:
        (tensor,) = tf.raw_ops.RestoreV2(
            prefix=prefix,
            tensor_names=[name],
            shape_and_slices=[""],
            dtypes=[dtypes[name]],
        )
        return tensor.numpy()

    return {
        name: StoredTensor(
            tuple(shape),
            dtypes[name].as_numpy_dtype,
            functools.partial(_rows, restore, name),
        )
        for name, shape in shapes.items()
        if not _NOT_WEIGHTS.search(name)
    }


def _rows(
    restore: Callable[[str], np.ndarray], name: str, rows: slice
) -> np.ndarray:
    return restore(name)[rows]


def _origins(
    config: SwitchTransformerConfig, tensors: Mapping[str, StoredTensor]
) -> dict[str, Origin]:
    if config.target_vocabulary_size is not None:
        raise ValueError(
            "`target_vocabulary_size` must be None: the checkpoint has one "
            "table. Received: target_vocabulary_size="
            f"{config.target_vocabulary_size}."
        )
    found = {"target_embedding/embeddings": Origin(("shared/embedding",))}
    if not config.tie_embeddings:
        found["head/kernel"] = Origin(("decoder/logits/kernel",))
    for stack in ("encoder", "decoder"):
        found[f"{stack}/final_norm/scale"] = _norm(stack, tensors)
        found.update(_blocks(config, stack, tensors))
    return found


def _norm(where: str, tensors: Mapping[str, StoredTensor]) -> Origin:
    """Returns the norm of a layer or stack, by the name its style has."""
    names = [f"{where}/{norm}/scale" for norm in _NORMS]
    return Origin((next((n for n in names if n in tensors), names[0]),))


def _blocks(
    config: SwitchTransformerConfig,
    stack: str,
    tensors: Mapping[str, StoredTensor],
) -> Iterator[tuple[str, Origin]]:
    """Yields the origins of all blocks of a stack.

    A block there is whatever is repeated: a dense and a sparse block of ours
    are one. So layers are counted through.
    """
    attentions = _ATTENTIONS[stack]
    wanted = [
        kind
        for block in range(getattr(config, f"num_{stack}_layers"))
        for kind in (
            *attentions.values(),
            "MoE1D" if config.is_sparse(block) else "DenseReluDense",
        )
    ]
    layers = _layers(stack, tensors)
    if list(layers.values()) != wanted:
        raise ValueError(
            f"The {stack} must have the layers of `config`, {wanted}. "
            f"Received: {list(layers.values())}."
        )
    where = iter(layers)
    for block in range(getattr(config, f"num_{stack}_layers")):
        ours = f"{stack}/block_{block}"
        for name, kind in attentions.items():
            layer = next(where)
            yield f"{ours}/around_{name}/norm/scale", _norm(layer, tensors)
            for part, letter in _PROJECTIONS.items():
                yield (
                    f"{ours}/{name}/{part}/kernel",
                    Origin((f"{layer}/{kind}/{letter}",)),
                )
            if block == 0 and kind == "SelfAttention":
                bias = f"{layer}/{kind}/relative_attention_bias"
                yield (
                    f"{stack}/position_bias/table",
                    Origin((bias,), transposed=True),
                )
        layer = next(where)
        yield f"{ours}/around_feed_forward/norm/scale", _norm(layer, tensors)
        yield from _feed_forward(config, block, ours, layer, tensors)


def _layers(stack: str, tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Returns the kind of each layer of a stack, in their order."""
    kinds = {}
    for name in sorted(tensors):
        match = _LAYER.match(name)
        if match and match[1] == stack and match[3] not in _NORMS:
            kinds[f"{stack}/{match[2]}"] = match[3]
    return kinds


def _feed_forward(
    config: SwitchTransformerConfig,
    block: int,
    ours: str,
    layer: str,
    tensors: Mapping[str, StoredTensor],
) -> Iterator[tuple[str, Origin]]:
    kernels = {"wi": "wi", "wo": "wo"}
    if config.gated:
        kernels = {"wi": "wi_0", "wi_gate": "wi_1", "wo": "wo"}
    sparse = config.is_sparse(block)
    kind = "MoE1D" if sparse else "DenseReluDense"
    if sparse:
        prefix = f"{layer}/{kind}/"
        gating = [
            name
            for name in tensors
            if name.startswith(prefix) and name.endswith("_gating/kernel")
        ]
        yield (
            f"{ours}/sparse_moe/router/kernel",
            Origin((*gating, f"{prefix}switch_gating/kernel")[:1]),
        )
    network = "sparse_moe/experts" if sparse else "feed_forward"
    for kernel, name in kernels.items():
        yield (
            f"{ours}/{network}/{kernel}/kernel",
            Origin((f"{layer}/{kind}/{name}/kernel",)),
        )
