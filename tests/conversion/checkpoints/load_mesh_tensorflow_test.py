import os
import re

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import conversion
from keras_moe.models import SwitchTransformerConfig
from tests.conversion.checkpoints import hugging_face_case as case
from tests.reference import hugging_face as reference

SOURCE, TARGET = np.array([5, 6, 7, 11, 1]), np.array([0, 4, 9, 9])
CONFIG = SwitchTransformerConfig(
    vocabulary_size=13,
    model_dim=8,
    key_dim=6,
    num_heads=2,
    hidden_dim=10,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_experts=3,
)
# The same tensors under their names and orders: theirs are `[in, out]`, and
# all experts are in one.
NAMES = {
    "shared.weight": ("shared/embedding", False),
    "lm_head.weight": ("decoder/logits/kernel", True),
}


def renamed(tensors, style, per_block):
    """mesh-tensorflow's form of a checkpoint that the reference can read.

    `per_block` of our blocks are one of theirs.
    """
    norm, last = {
        "legacy": ("layer_norm", "final_layer_norm"),
        "t5.1.0": ("rms_norm", "rms_norm"),
    }[style]
    found, experts = {}, {}
    for name, value in tensors.items():
        if name in NAMES:
            new, turned = NAMES[name]
            found[new] = value.T if turned else value
            continue
        stack, *rest = name.split(".")
        if rest[0] == "final_layer_norm":
            found[f"{stack}/{last}/scale"] = value
            continue
        _, block, _, layer, part, *kernel = rest
        layers = 2 if stack == "encoder" else 3
        place = layers * (int(block) % per_block) + int(layer)
        prefix = f"{stack}/block_{int(block) // per_block:03}/layer_{place:03}"
        if part == "layer_norm":
            found[f"{prefix}/{norm}/scale"] = value
        elif part in ("SelfAttention", "EncDecAttention"):
            found[f"{prefix}/{part}/{kernel[0]}"] = value.T
        elif kernel[0] == "router":
            found[f"{prefix}/MoE1D/switch_gating/kernel"] = value.T
        elif kernel[0] == "experts":
            bank = f"{prefix}/MoE1D/{kernel[2]}/kernel"
            experts.setdefault(bank, []).append(value.T)
        else:
            found[f"{prefix}/DenseReluDense/{kernel[0]}/kernel"] = value.T
    return found | {name: np.stack(bank) for name, bank in experts.items()}


def write(prefix, tensors):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return prefix


@pytest.mark.parametrize(
    ("style", "per_block"), [("legacy", 1), ("t5.1.0", 1), ("t5.1.0", 2)]
)
def test_switch(style, per_block, tmp_path):
    tensors = case.tensors_of(case.SWITCH)
    theirs = renamed(tensors, style, per_block)
    training = {
        "global_step": np.int64(7),
        "shared/embedding_slot_vr": np.ones(13, "float32"),
    }
    prefix = write(tmp_path / "model.ckpt-7", theirs | training)
    used = []
    model = conversion.load_mesh_tensorflow(
        prefix, CONFIG, progress=lambda name, sources: used.extend(sources)
    )
    logits = model(
        {"encoder_token_ids": SOURCE[None], "decoder_token_ids": TARGET[None]}
    )
    wanted = reference.logits(tensors, SOURCE, TARGET, 2, "relu", scaled=True)
    np.testing.assert_allclose(logits[0], wanted, rtol=1e-4, atol=1e-4)
    assert sorted(used) == sorted(theirs)  # each once


def test_t5_1_1(tmp_path):
    tensors = case.tensors_of(case.T5_1_1)
    prefix = write(tmp_path / "m", renamed(tensors, "t5.1.0", 1))
    config = SwitchTransformerConfig(
        **{
            **CONFIG.to_dict(),
            "num_experts": 0,
            "num_decoder_layers": 1,
            "gated": True,
            "activation": "gelu_tanh",
            "tie_embeddings": False,
        }
    )
    model = conversion.load_mesh_tensorflow(prefix, config)
    logits = model(
        {"encoder_token_ids": SOURCE[None], "decoder_token_ids": TARGET[None]}
    )
    wanted = reference.logits(tensors, SOURCE, TARGET, 2, "gelu_new", False)
    np.testing.assert_allclose(logits[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def theirs():
    return renamed(case.tensors_of(case.SWITCH), "t5.1.0", 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_experts": 2}, "of the shapes"),
        ({"num_experts": 0}, "The encoder must have the layers"),
        ({"moe_every": 1}, "['SelfAttention', 'MoE1D'"),
        ({"num_encoder_layers": 3}, "The encoder must have the layers"),
        ({"gated": True}, "missing"),
        ({"tie_embeddings": False}, "missing: decoder/logits/kernel"),
        ({"num_relative_buckets": 16}, "relative_attention_bias (2, 32)"),
        ({"hidden_dim": 1 << 40}, "of the shapes"),
        ({"target_vocabulary_size": 13}, "`target_vocabulary_size` must be"),
    ],
)
def test_configs_that_do_not_fit(change, words, theirs, tmp_path):
    prefix = write(tmp_path / "m", theirs)
    config = SwitchTransformerConfig(**{**CONFIG.to_dict(), **change})
    with pytest.raises(ValueError, match=re.escape(words)):
        conversion.load_mesh_tensorflow(prefix, config)


def test_distances_of_each_layer(theirs, tmp_path):
    """`SwitchTransformer` has a table a stack: others would be lost."""
    layer = "encoder/block_001/layer_000/SelfAttention"
    other = f"{layer}/relative_attention_bias"
    prefix = write(tmp_path / "m", theirs | {other: np.ones((2, 32))})
    with pytest.raises(ValueError, match=f"unexpected: {other}"):
        conversion.load_mesh_tensorflow(prefix, CONFIG)


def test_files_that_are_not_whole(theirs, tmp_path):
    prefix = tmp_path / "model.ckpt-1"
    with pytest.raises(ValueError, match="`prefix` must be that of a"):
        conversion.load_mesh_tensorflow(prefix, CONFIG)
    write(prefix, theirs)
    data = tmp_path / "model.ckpt-1.data-00000-of-00001"
    index = tmp_path / "model.ckpt-1.index"
    size = os.path.getsize(data)
    os.truncate(data, size // 2)
    with pytest.raises(ValueError, match="must be whole"):
        conversion.load_mesh_tensorflow(prefix, CONFIG)
    data.unlink()
    with pytest.raises(ValueError, match="must be whole"):
        conversion.load_mesh_tensorflow(prefix, CONFIG)
    os.truncate(index, 20)
    with pytest.raises(ValueError, match="must be whole"):
        conversion.load_mesh_tensorflow(prefix, CONFIG)
