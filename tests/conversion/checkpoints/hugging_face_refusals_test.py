"""Checkpoints that are refused, and why."""

import json
import pickle
import re
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_moe import conversion
from keras_moe.models import SwitchTransformer
from tests.conversion.checkpoints import hugging_face_case as case

TENSORS = case.tensors_of(case.SWITCH)


def refused(folder, *words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as raised:
        conversion.load_hugging_face(folder)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "umt5"}, ["`model_type` must be", "'umt5'"]),
        ({"model_type": None}, ["`model_type` must be"]),
        ({"layer_norm_epsilon": 1e-5}, ["`layer_norm_epsilon` must be 1e-06"]),
        ({"router_bias": True}, ["`router_bias` must be False"]),
        ({"router_dtype": "bfloat16"}, ["`router_dtype` must be 'float32'"]),
        ({"dense_act_fn": "mish"}, ["The activation must be", "'mish'"]),
        ({"is_gated_act": True}, ["`is_gated_act` must be False"]),
        ({"tie_encoder_decoder": True}, ["`tie_encoder_decoder` must be"]),
        ({"d_ff": None}, ["`config.json` must have `d_ff`"]),
        ({"d_ff": "10"}, ["`d_ff` must be a number", "d_ff='10'"]),
        ({"d_model": 10**9}, ["of the shapes", "(1000000000, 12)"]),
        ({"num_layers": 10**9}, ["`num_layers` must be at most"]),
        ({"num_experts": 10**9}, ["`num_experts` must be at most"]),
        ({"num_sparse_encoder_layers": None}, ["must be a number"]),
        ({"eos_token_id": [1, 2]}, ["`eos_token_id` must be one id"]),
        ({"eos_token_id": 0}, ["`end_id` must differ"]),
        (
            {"num_layers": 7, "num_sparse_encoder_layers": 2},
            ["The sparse blocks must be", "[1, 4]"],
        ),
        (
            {"num_sparse_decoder_layers": 2},
            ["The sparse blocks must be", "[1] of 2 and [0, 1] of 2"],
        ),
        ({"num_experts": 2}, ["unexpected: decoder.block.1", "expert_2"]),
        ({"num_experts": 4}, ["missing: decoder.block.1", "expert_3"]),
        (
            {"num_layers": 4, "num_sparse_encoder_layers": 2},
            ["missing: encoder.block.2"],
        ),
        ({"keras_moe": {"num_layers": 3}}, ["`keras_moe` must hold no other"]),
        ({"keras_moe": 3}, ["`keras_moe` must hold", "keras_moe=3"]),
        ({"keras_moe": {"capacity_factor": -1}}, ["`capacity_factor` must be"]),
        ({"d_ff": 11}, ["of the shapes", "(10, 8) for", "and 3 more"]),
        ({"vocab_size": 14}, ["shared.weight (13, 8) for target_embedding"]),
    ],
)
def test_configs_that_do_not_fit(change, words, tmp_path):
    case.write(tmp_path, case.SWITCH | change, TENSORS)
    refused(tmp_path, *words)


def test_an_activation_that_is_said_twice(tmp_path):
    config = case.T5 | {"dense_act_fn": "gelu_new"}
    case.write(tmp_path, config, case.tensors_of(case.T5))
    refused(tmp_path, "`dense_act_fn` must be 'relu'")


def test_tensors_that_do_not_fit(tmp_path):
    name = "encoder.block.1.layer.1.mlp.experts.expert_2.wi.weight"
    others = {
        "another shape": np.ones((10, 9), "float32"),
        "integers": np.ones((10, 8), "int32"),
        "a vector": np.ones(80, "float32"),
        "too large": np.full((10, 8), 1e30, "float32"),
    }
    for what, tensor in others.items():
        case.write(tmp_path, case.SWITCH, TENSORS | {name: tensor})
        with pytest.raises(ValueError, match="must") as raised:
            conversion.load_hugging_face(tmp_path, dtype="float16")
        wanted = "sparse_moe/experts/wi" if what == "too large" else name
        assert wanted in str(raised.value), what


def test_no_tensors(tmp_path):
    refused(tmp_path, "must hold config.json")
    (tmp_path / "config.json").write_text("[1]")
    refused(tmp_path, "`config.json` must hold an object", "list")
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "`config.json` must be JSON")
    (tmp_path / "config.json").write_text(json.dumps(case.SWITCH))
    refused(tmp_path, "must hold model.safetensors")


class Harm:
    """Unpickling it is noticed."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was read",))


def test_a_pickle_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(case.SWITCH))
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Harm()))
    refused(tmp_path, "pytorch_model.bin, a pickle", "safetensors")
    path.rename(tmp_path / "model.safetensors")
    refused(tmp_path, "`model.safetensors` must be a whole")


def _header(folder):
    raw = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def _write_header(folder, header, data):
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + data
    (folder / "model.safetensors").write_bytes(whole)


def _lie(name, field, value):
    def change(folder):
        header, data = _header(folder)
        header[name][field] = value
        _write_header(folder, header, data)

    return change


def _cut(size):
    def change(folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:size])

    return change


FILES = {
    "truncated": _cut(-5),
    "cut in its header": _cut(50),
    "empty": _cut(0),
    "a shape that is too large": _lie("shared.weight", "shape", [1 << 40, 8]),
    "a shape that is too small": _lie("shared.weight", "shape", [1, 8]),
    "offsets beyond the end": _lie(
        "shared.weight", "data_offsets", [0, 1 << 40]
    ),
    "offsets of another": _lie("shared.weight", "data_offsets", [0, 13 * 32]),
    "another dtype": _lie("shared.weight", "dtype", "F64"),
    "negative": _lie("shared.weight", "shape", [-13, 8]),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_lies(what, tmp_path):
    case.write(tmp_path, case.SWITCH, TENSORS)
    FILES[what](tmp_path)
    refused(tmp_path, "`model.safetensors` must be a whole safetensors file")


def test_an_index_that_lies(tmp_path):
    names = sorted(TENSORS)
    files = dict.fromkeys(names, "a.safetensors")
    files[names[0]] = "b.safetensors"
    case.write(tmp_path, case.SWITCH, TENSORS, files)
    conversion.load_hugging_face(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    for file in ("../a.safetensors", "/etc/a.safetensors", "a.bin", 3, "a/b"):
        path.write_text(json.dumps({"weight_map": {**files, "x": file}}))
        refused(tmp_path, "must name safetensors files beside it", repr(file))
    path.write_text(
        json.dumps({"weight_map": {**files, names[0]: "a.safetensors"}})
    )
    refused(tmp_path, "`a.safetensors` must hold what", names[0])
    path.write_text(json.dumps({"weight_map": {**files, "x": "c.safetensors"}}))
    refused(tmp_path, "must hold c.safetensors", "no such file")
    for text in ("{}", "[]", "{", '{"weight_map": 3}'):
        path.write_text(text)
        refused(tmp_path, "must map names of tensors to files")


def test_two_tensors_of_one_place(tmp_path):
    """A file whose tensors overlap would set two weights to one value."""
    case.write(tmp_path, case.SWITCH, TENSORS)
    header, data = _header(tmp_path)
    first, second = (
        "encoder.final_layer_norm.weight",
        "decoder.final_layer_norm.weight",
    )
    header[first]["data_offsets"] = header[second]["data_offsets"]
    _write_header(tmp_path, header, data)
    refused(tmp_path, "`model.safetensors` must be a whole safetensors file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gated": True}, "`gated` must be False"),
        (
            {"gated": True, "activation": "gelu", "num_experts": 0},
            "`activation` must be 'gelu_tanh'",
        ),
        ({"encoder_router": "top_k"}, "`encoder_router` must be 'switch'"),
        ({"attention": "random_feature"}, "`attention` must be 'softmax'"),
        ({"target_vocabulary_size": 9}, "`target_vocabulary_size` must be"),
        ({"activation": "elu"}, "`activation` must be one that"),
        ({"exit_classifier": True}, "exit_classifier"),
        ({"moe_every": 3, "num_encoder_layers": 3}, "The sparse blocks"),
    ],
)
def test_models_that_they_have_not(change, words, tmp_path):
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 2}
    model = SwitchTransformer.from_preset("switch_tiny", **(sizes | change))
    with pytest.raises(ValueError, match=re.escape(words)):
        conversion.save_hugging_face(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_layers_that_they_have_not(tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    model.encoder.blocks[0].feed_forward.inner.enable_lora(2)
    with pytest.raises(ValueError, match="without LoRA"):
        conversion.save_hugging_face(model, tmp_path / "new")


def test_a_directory_that_holds_something(tmp_path):
    save_file({"a": np.ones(3)}, tmp_path / "model.safetensors")
    model = SwitchTransformer.from_preset("switch_tiny")
    with pytest.raises(ValueError, match="must be new, or empty"):
        conversion.save_hugging_face(model, tmp_path)
    with pytest.raises(ValueError, match="`max_shard_bytes` must be positive"):
        conversion.save_hugging_face(model, tmp_path / "new", max_shard_bytes=0)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
