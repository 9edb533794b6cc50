"""T5X's checkpoints become models of ours."""

import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keras_moe.conversion.checkpoints._assign_origins import Progress
from keras_moe.conversion.checkpoints._assign_origins import assign_origins
from keras_moe.conversion.checkpoints._assign_origins import check_origins
from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.conversion.checkpoints._t5x_config import HEAD
from keras_moe.conversion.checkpoints._t5x_config import TABLE
from keras_moe.conversion.checkpoints._t5x_config import read_config
from keras_moe.conversion.checkpoints._t5x_folder import open_t5x
from keras_moe.keras_internals import zeros_for_random_values
from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig
from keras_moe.weights import named_weights
from keras_moe.weights._named_weights import without_state

_ATTENTIONS = {
    "encoder": {"attention": "attention"},
    "decoder": {
        "self_attention": "self_attention",
        "cross_attention": "encoder_decoder_attention",
    },
}
_PROJECTIONS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "output": "out",
}


def load_t5x(
    directory: str | os.PathLike,
    config: Mapping[str, Any] | None = None,
    *,
    dtype: Any = None,
    progress: Progress | None = None,
) -> SwitchTransformer:
    """Loads a checkpoint of T5 or Switch Transformers as T5X has it.

    Reads T5 1.0, 1.1, mT5 and Flan-T5 (`t5x/examples/t5`), and Flaxformer's
    sparse models of one gate, in the format of T5X: `checkpoint`, a msgpack
    file, and arrays beside it in zarr's format. The extra `[t5x]` brings
    `msgpack`; neither JAX nor T5X is needed, no code of the checkpoint runs,
    and tensors are read some rows at a time. The optimizer's state is left
    where it is.

    Logits are equal to theirs where no expert is full; they drop tokens in
    evaluation, too.

    Args:
        directory: `checkpoint_N`.
        config: fields of `SwitchTransformerConfig` that tensors do not say,
            such as `activation`, the routers, `max_relative_distance` or
            `dropout_rate`; sizes are read from the tensors. Unless given, the
            activation of a gated model is T5 1.1's, `"gelu_tanh"`, and
            otherwise `"relu"`.
        dtype: dtype or policy of the model. Tensors of another float are cast.
        progress: called with the name of each weight, before it is read, and
            the names of the tensors that it is made of.

    Returns:
        The model, with every weight set and every tensor used once.

    Raises:
        ValueError: if there is no such checkpoint, or it is damaged; if it is
            of a model that `SwitchTransformer` cannot express, such as one
            whose layers are stacked in one tensor; if `config` has a field
            that the tensors say otherwise. There is no model then.
        ModuleNotFoundError: without the extra `[t5x]`.

    Example:

    >>> try:
    ...     keras_moe.conversion.load_t5x("none")
    ... except ValueError as error:
    ...     print(error)
    `directory` must hold the file checkpoint. Received: none, which does not.
    """
    tensors = open_t5x(pathlib.Path(directory))
    sizes = read_config(tensors, config or {})
    origins = dict(_origins(sizes))
    with zeros_for_random_values():
        model = SwitchTransformer(sizes, dtype=dtype)
        weights = without_state(named_weights(model), model)
        # No weight has memory before the context ends.
        check_origins(weights, origins, tensors)
    assign_origins(weights, origins, tensors, progress)
    return model


def _origins(config: SwitchTransformerConfig) -> Iterator[tuple[str, Origin]]:
    yield "target_embedding/embeddings", Origin((TABLE,))
    if not config.tie_embeddings:
        yield "head/kernel", Origin((HEAD,))
    for stack, attentions in _ATTENTIONS.items():
        yield (
            f"{stack}/position_bias/table",
            Origin((f"{stack}/relpos_bias/rel_embedding",), transposed=True),
        )
        yield (
            f"{stack}/final_norm/scale",
            Origin((f"{stack}/{stack}_norm/scale",)),
        )
        for block in range(getattr(config, f"num_{stack}_layers")):
            ours, theirs = f"{stack}/block_{block}", f"{stack}/layers_{block}"
            for name, their_name in attentions.items():
                yield (
                    f"{ours}/around_{name}/norm/scale",
                    Origin((f"{theirs}/pre_{name}_layer_norm/scale",)),
                )
                for part, their_part in _PROJECTIONS.items():
                    yield (
                        f"{ours}/{name}/{part}/kernel",
                        Origin((f"{theirs}/{their_name}/{their_part}/kernel",)),
                    )
            yield (
                f"{ours}/around_feed_forward/norm/scale",
                Origin((f"{theirs}/pre_mlp_layer_norm/scale",)),
            )
            yield from _feed_forward(config, block, ours, theirs)


def _feed_forward(
    config: SwitchTransformerConfig, block: int, ours: str, theirs: str
) -> Iterator[tuple[str, Origin]]:
    kernels = {"wi": "wi", "wo": "wo"}
    if config.gated:
        kernels = {"wi": "wi_0", "wi_gate": "wi_1", "wo": "wo"}
    inside, network = "mlp", "feed_forward"
    if config.is_sparse(block):
        inside, network = "mlp/expert", "sparse_moe/experts"
        yield (
            f"{ours}/sparse_moe/router/kernel",
            Origin((f"{theirs}/mlp/router/router_weights/w/kernel",)),
        )
    for kernel, name in kernels.items():
        yield (
            f"{ours}/{network}/{kernel}/kernel",
            Origin((f"{theirs}/{inside}/{name}/kernel",)),
        )
