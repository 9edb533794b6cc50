"""Which of Hugging Face's tensors are which of our weights."""

from collections.abc import Iterator

from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.models import SwitchTransformerConfig

SHARED = "shared.weight"
ENCODER_TABLE = "encoder.embed_tokens.weight"
DECODER_TABLE = "decoder.embed_tokens.weight"
HEAD = "lm_head.weight"
# T5's first checkpoints have a table of distances between two sequences, which
# nothing reads.
UNREAD = (
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
)


def hugging_face_origins(
    config: SwitchTransformerConfig, family: str
) -> dict[str, Origin]:
    """Returns the origin of each weight between embeddings and head.

    Args:
        config: the model's.
        family: `"t5"` or `"switch_transformers"`, whose feed-forward networks
            have other names.
    """
    found: dict[str, Origin] = {}
    for stack, blocks in (
        ("encoder", config.num_encoder_layers),
        ("decoder", config.num_decoder_layers),
    ):
        found[f"{stack}/position_bias/table"] = Origin(
            (
                f"{stack}.block.0.layer.0.SelfAttention."
                "relative_attention_bias.weight",
            )
        )
        found[f"{stack}/final_norm/scale"] = Origin(
            (f"{stack}.final_layer_norm.weight",)
        )
        for block in range(blocks):
            found.update(_block(config, family, stack, block))
    return found


def _block(
    config: SwitchTransformerConfig, family: str, stack: str, block: int
) -> Iterator[tuple[str, Origin]]:
    ours = f"{stack}/block_{block}"
    theirs = f"{stack}.block.{block}.layer"
    attentions = (
        [("attention", "SelfAttention")]
        if stack == "encoder"
        else [
            ("self_attention", "SelfAttention"),
            ("cross_attention", "EncDecAttention"),
        ]
    )
    for layer, (name, their_name) in enumerate(attentions):
        yield (
            f"{ours}/around_{name}/norm/scale",
            Origin((f"{theirs}.{layer}.layer_norm.weight",)),
        )
        for part in ("query", "key", "value", "output"):
            yield (
                f"{ours}/{name}/{part}/kernel",
                _turned(f"{theirs}.{layer}.{their_name}.{part[0]}.weight"),
            )
    last = f"{theirs}.{len(attentions)}"
    yield (
        f"{ours}/around_feed_forward/norm/scale",
        Origin((f"{last}.layer_norm.weight",)),
    )
    inner = "DenseReluDense" if family == "t5" else "mlp"
    kernels = {"wi": "wi", "wo": "wo"}
    if config.gated:
        kernels = {"wi": "wi_0", "wi_gate": "wi_1", "wo": "wo"}
    if not config.is_sparse(block):
        for kernel, name in kernels.items():
            yield (
                f"{ours}/feed_forward/{kernel}/kernel",
                _turned(f"{last}.{inner}.{name}.weight"),
            )
        return
    yield (
        f"{ours}/sparse_moe/router/kernel",
        _turned(f"{last}.{inner}.router.classifier.weight"),
    )
    for kernel, name in kernels.items():
        experts = tuple(
            f"{last}.{inner}.experts.expert_{expert}.{name}.weight"
            for expert in range(config.num_experts)
        )
        yield (
            f"{ours}/sparse_moe/experts/{kernel}/kernel",
            Origin(experts, transposed=True, stacked=True),
        )


def _turned(name: str) -> Origin:
    return Origin((name,), transposed=True)
