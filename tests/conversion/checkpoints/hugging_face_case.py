"""Checkpoints as Hugging Face's libraries write them, made here."""

import json

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "vocab_size": 13,
    "d_model": 8,
    "d_kv": 6,  # heads need not fill the model
    "d_ff": 10,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
SWITCH = {
    **SIZES,
    "model_type": "switch_transformers",
    "num_decoder_layers": 2,
    "num_sparse_encoder_layers": 1,
    "num_sparse_decoder_layers": 1,
    "num_experts": 3,
}
T5 = {**SIZES, "model_type": "t5"}
T5_1_1 = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def tensors_of(config, seed=0):
    """Random tensors under the names that the checkpoints have."""
    rng = np.random.default_rng(seed)
    d, inner = config["d_model"], config["d_kv"] * config["num_heads"]
    sparse = config["model_type"] == "switch_transformers"
    gated = config.get("feed_forward_proj") == "gated-gelu"
    shapes = {"shared.weight": (config["vocab_size"], d)}
    if config.get("tie_word_embeddings") is False:
        shapes["lm_head.weight"] = (config["vocab_size"], d)
    depths = {
        "encoder": config["num_layers"],
        "decoder": config["num_decoder_layers"],
    }
    for stack, layers in depths.items():
        shapes[f"{stack}.final_layer_norm.weight"] = (d,)
        for b in range(layers):
            parts = ["SelfAttention", "EncDecAttention"]
            parts = parts[: 2 if stack == "decoder" else 1]
            for layer, part in enumerate(parts):
                name = f"{stack}.block.{b}.layer.{layer}"
                shapes[f"{name}.layer_norm.weight"] = (d,)
                for kernel in "qkv":
                    shapes[f"{name}.{part}.{kernel}.weight"] = (inner, d)
                shapes[f"{name}.{part}.o.weight"] = (d, inner)
            last = f"{stack}.block.{b}.layer.{len(parts)}"
            shapes[f"{last}.layer_norm.weight"] = (d,)
            networks = [f"{last}.{'mlp' if sparse else 'DenseReluDense'}"]
            if sparse and b % 2 == 1:
                (network,) = networks
                experts = config["num_experts"]
                shapes[f"{network}.router.classifier.weight"] = (experts, d)
                networks = [
                    f"{network}.experts.expert_{e}" for e in range(experts)
                ]
            for network in networks:
                for kernel in ("wi_0", "wi_1") if gated else ("wi",):
                    shapes[f"{network}.{kernel}.weight"] = (config["d_ff"], d)
                shapes[f"{network}.wo.weight"] = (d, config["d_ff"])
        shapes[
            f"{stack}.block.0.layer.0.SelfAttention."
            "relative_attention_bias.weight"
        ] = (32, config["num_heads"])
    return {
        name: rng.normal(0.0, 0.5, shape).astype("float32")
        for name, shape in shapes.items()
    }


def write(folder, config, tensors, files=None):
    """Writes a checkpoint; `files` splits it by name into several."""
    (folder / "config.json").write_text(json.dumps(config))
    if files is None:
        save_file(tensors, folder / "model.safetensors")
        return
    for file in set(files.values()):
        part = {n: t for n, t in tensors.items() if files[n] == file}
        save_file(part, folder / file)
    index = {"metadata": {}, "weight_map": files}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
