"""Hugging Face's `config.json` of Switch Transformers and T5, and ours."""

from collections.abc import Mapping
from typing import Any

from keras_moe.models import SwitchTransformerConfig

FAMILIES = ("switch_transformers", "t5", "mt5")
# Names of both sides that mean the same; theirs first.
_SIZES = {
    "vocab_size": "vocabulary_size",
    "d_model": "model_dim",
    "d_kv": "key_dim",
    "d_ff": "hidden_dim",
    "num_layers": "num_encoder_layers",
    "num_decoder_layers": "num_decoder_layers",
    "num_heads": "num_heads",
    "relative_attention_num_buckets": "num_relative_buckets",
    "relative_attention_max_distance": "max_relative_distance",
    "dropout_rate": "dropout_rate",
    "pad_token_id": "pad_id",
    "eos_token_id": "end_id",
    "decoder_start_token_id": "start_id",
}
_SWITCH_SIZES = {
    "num_experts": "num_experts",
    "router_jitter_noise": "jitter_noise",
    "router_z_loss_coef": "router_z_loss_weight",
    "router_aux_loss_coef": "load_balancing_loss_weight",
}
# Hugging Face's defaults, for fields that a file leaves out; sizes have none
# that could be relied on.
_DEFAULTS: dict[str, Any] = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "dropout_rate": 0.1,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "router_jitter_noise": 0.01,
    "router_z_loss_coef": 0.001,
    "router_aux_loss_coef": 0.001,
}
# What they have no field for, and only training asks: kept under a name of
# ours, which `transformers` does not look at.
_OWN = "keras_moe"
_OWN_FIELDS = (
    "capacity_factor",
    "expert_dropout_rate",
    "layer_dropout_rate",
    "report_metrics",
)
# Their names of activations, and ours.
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# What the model always does, by the field that would have it done otherwise.
_FIXED = {
    "layer_norm_epsilon": 1e-6,
    "router_bias": False,
    "router_dtype": "float32",
    "is_encoder_decoder": True,
    "tie_encoder_decoder": False,
}


def read_family(given: Mapping[str, Any]) -> str:
    """Returns `"switch_transformers"` or `"t5"`.

    Raises:
        ValueError: for another model.
    """
    family = given.get("model_type")
    if family not in FAMILIES:
        raise ValueError(
            f"`model_type` must be one of {FAMILIES}. Received: "
            f"model_type={family!r}."
        )
    return "t5" if family == "mt5" else family


def read_config(
    given: Mapping[str, Any], *, tie_embeddings: bool, two_tables: bool
) -> SwitchTransformerConfig:
    """Returns the config of the model that a `config.json` describes.

    Args:
        given: what the file holds.
        tie_embeddings: whether the head is the table of embeddings.
        two_tables: whether encoder and decoder have tables of their own.

    Raises:
        ValueError: for what `SwitchTransformer` cannot express, by name.
    """
    for field, fixed in _FIXED.items():
        if given.get(field, fixed) != fixed:
            raise ValueError(
                f"`{field}` must be {fixed!r}: `SwitchTransformer` has no "
                f"other. Received: {field}={given[field]!r}."
            )
    sparse = read_family(given) == "switch_transformers"
    names = _SIZES | _SWITCH_SIZES if sparse else _SIZES
    layers = _field(given, "num_layers")
    fallbacks = {
        **_DEFAULTS,
        "num_decoder_layers": layers,
        "decoder_start_token_id": given.get("pad_token_id", 0),
    }
    sizes: dict[str, Any] = {}
    for theirs, ours in names.items():
        value = given.get(theirs)
        if value is None:
            value = fallbacks.get(theirs)
        sizes[ours] = _field(given, theirs) if value is None else value
    if isinstance(sizes["end_id"], list):
        if len(sizes["end_id"]) != 1:
            raise ValueError(
                "`eos_token_id` must be one id. Received: "
                f"eos_token_id={sizes['end_id']}."
            )
        sizes["end_id"] = sizes["end_id"][0]
    for theirs, ours in names.items():
        _check_number(theirs, sizes[ours])
    if sparse:
        activation, gated = given.get("dense_act_fn", "relu"), False
        sizes |= _read_sparsity(given, sizes)
    else:
        activation, gated = _read_projection(given)
        sizes["num_experts"] = 0
    for field, said in (
        ("dense_act_fn", activation),
        ("is_gated_act", gated),
    ):
        if given.get(field, said) != said:
            raise ValueError(
                f"`{field}` must be {said!r}, as the rest of config.json has "
                f"it. Received: {field}={given[field]!r}."
            )
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"The activation must be one of {tuple(_ACTIVATIONS)}. Received: "
            f"{activation!r}."
        )
    if two_tables:
        sizes["target_vocabulary_size"] = sizes["vocabulary_size"]
    return SwitchTransformerConfig(
        **sizes,
        **_read_own(given),
        activation=_ACTIVATIONS[activation],
        gated=gated,
        tie_embeddings=tie_embeddings,
    )


def _field(given: Mapping[str, Any], name: str) -> Any:
    if given.get(name) is None:
        raise ValueError(
            f"`config.json` must have `{name}`. Received: {sorted(given)}."
        )
    return given[name]


def _read_own(given: Mapping[str, Any]) -> dict[str, Any]:
    own = given.get(_OWN, {})
    if not isinstance(own, Mapping) or set(own) - set(_OWN_FIELDS):
        raise ValueError(
            f"`{_OWN}` must hold no other fields than {_OWN_FIELDS}. Received: "
            f"{_OWN}={own!r}."
        )
    return dict(own)


def _write_own(config: SwitchTransformerConfig) -> dict[str, Any]:
    own = {
        field: getattr(config, field)
        for field in _OWN_FIELDS
        if getattr(config, field) != getattr(SwitchTransformerConfig, field)
    }
    return {_OWN: own} if own else {}


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"`{name}` must be a number. Received: {name}={value!r}."
        )


def _read_projection(given: Mapping[str, Any]) -> tuple[str, bool]:
    """Reads `"relu"`, `"gated-gelu"` and the like."""
    default = "gated-gelu" if given["model_type"] == "mt5" else "relu"
    projection = given.get("feed_forward_proj", default)
    # T5 1.1's gated GELU has always meant the form with tanh.
    if projection == "gated-gelu":
        return "gelu_new", True
    activation = str(projection)
    return activation.removeprefix("gated-"), activation.startswith("gated-")


def _read_sparsity(
    given: Mapping[str, Any], sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """Finds `moe_every`, which must give the blocks that are sparse there."""
    wanted = {}
    for stack in ("encoder", "decoder"):
        field = f"num_sparse_{stack}_layers"
        number = given.get(field, 3)
        _check_number(field, number)
        wanted[stack] = sparse_blocks(sizes[f"num_{stack}_layers"], number)
    if not any(wanted.values()):
        return {"num_experts": 0}
    deepest = max(sizes[f"num_{stack}_layers"] for stack in wanted)
    for every in range(1, deepest + 1):
        if all(
            blocks
            == [
                block
                for block in range(sizes[f"num_{stack}_layers"])
                if (block + 1) % every == 0
            ]
            for stack, blocks in wanted.items()
        ):
            return {"moe_every": every}
    raise ValueError(
        "The sparse blocks must be every n-th, the n-th first, in encoder and "
        f"decoder alike. Received: {wanted['encoder']} of "
        f"{sizes['num_encoder_layers']} and {wanted['decoder']} of "
        f"{sizes['num_decoder_layers']}, counted from 0."
    )


def sparse_blocks(num_layers: int, num_sparse: int) -> list[int]:
    """Returns the blocks that `transformers` makes sparse."""
    step = num_layers // num_sparse if num_sparse > 0 else num_layers
    if step < 1:
        return []
    return [b for b in range(num_layers) if step == 1 or b % step == 1]


def write_config(config: SwitchTransformerConfig) -> dict[str, Any]:
    """Returns what `config.json` holds for a model.

    Raises:
        ValueError: for what `transformers` cannot express, by name.
    """
    sparse = config.num_experts > 0
    rules = {
        "target_vocabulary_size": (None,),
        "attention": ("softmax",),
        "position_encoding": ("relative_bias",),
        **({"gated": (False,)} if sparse else {}),
        **({"encoder_router": ("switch",)} if sparse else {}),
        **({"decoder_router": ("switch",)} if sparse else {}),
    }
    for field, allowed in rules.items():
        if getattr(config, field) not in allowed:
            raise ValueError(
                f"`{field}` must be {allowed[0]!r} for Hugging Face's model. "
                f"Received: {field}={getattr(config, field)!r}."
            )
    names = _SIZES | _SWITCH_SIZES if sparse else _SIZES
    values = {theirs: getattr(config, ours) for theirs, ours in names.items()}
    values["d_kv"] = config.head_dim
    if sparse:
        values["dense_act_fn"] = _their_activation(config)
        values |= _write_sparsity(config)
    else:
        values["feed_forward_proj"] = _their_projection(config)
    family = "switch_transformers" if sparse else "t5"
    architecture = "SwitchTransformers" if sparse else "T5"
    return {
        "architectures": [f"{architecture}ForConditionalGeneration"],
        "model_type": family,
        "is_encoder_decoder": True,
        "layer_norm_epsilon": 1e-6,
        "tie_word_embeddings": config.tie_embeddings,
        **values,
        **_write_own(config),
    }


def _their_projection(config: SwitchTransformerConfig) -> str:
    activation = _their_activation(config)
    if not config.gated:
        return activation
    if activation == "gelu":
        raise ValueError(
            "`activation` must be 'gelu_tanh' for a gated model of Hugging "
            "Face, whose 'gated-gelu' is that. Received: activation='gelu'."
        )
    name = "gelu" if activation == "gelu_new" else activation
    return f"gated-{name}"


def _their_activation(config: SwitchTransformerConfig) -> str:
    for theirs, ours in _ACTIVATIONS.items():
        if ours == config.activation:
            return theirs
    raise ValueError(
        "`activation` must be one that Hugging Face has. Received: "
        f"activation={config.activation!r}."
    )


def _write_sparsity(config: SwitchTransformerConfig) -> dict[str, int]:
    found = {}
    for stack in ("encoder", "decoder"):
        layers = getattr(config, f"num_{stack}_layers")
        blocks = [b for b in range(layers) if config.is_sparse(b)]
        # Theirs makes a block sparse even where none is asked for.
        fitting = [
            number
            for number in (len(blocks), *range(layers + 1))
            if sparse_blocks(layers, number) == blocks
        ]
        if not fitting:
            raise ValueError(
                f"The sparse blocks of the {stack} must be such that "
                f"Hugging Face's model has them. Received: {blocks} of "
                f"{layers}, counted from 0."
            )
        found[f"num_sparse_{stack}_layers"] = fitting[0]
    return found
