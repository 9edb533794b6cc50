import json

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_moe import conversion
from keras_moe.models import SwitchTransformer
from keras_moe.weights import named_weights
from tests.conversion.checkpoints import hugging_face_case as case
from tests.reference import hugging_face as reference

SOURCE = np.array([[5, 6, 7, 11, 1], [3, 1, 0, 0, 0]])
TARGET = np.array([[0, 4, 9, 9], [0, 12, 2, 5]])
KINDS = {"switch": case.SWITCH, "t5": case.T5, "t5 1.1": case.T5_1_1}


def expected(config, tensors):
    """The reference's logits of both rows, which it gets without padding."""
    return np.stack(
        [
            reference.logits(
                tensors,
                source[source != 0],
                target,
                config["num_heads"],
                "gelu_new" if "feed_forward_proj" in config else "relu",
                scaled=config.get("tie_word_embeddings") is not False,
            )
            for source, target in zip(SOURCE, TARGET, strict=True)
        ]
    )


def answer(model):
    return model({"encoder_token_ids": SOURCE, "decoder_token_ids": TARGET})


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_reference(kind, tmp_path):
    config = KINDS[kind]
    tensors = case.tensors_of(config)
    case.write(tmp_path, config, tensors)
    names, used = [], []

    def progress(name, sources):
        names.append(name)
        used.extend(sources)

    model = conversion.load_hugging_face(tmp_path, progress=progress)
    np.testing.assert_allclose(
        answer(model), expected(config, tensors), rtol=1e-4, atol=1e-4
    )
    assert sorted(used) == sorted(tensors)  # each once
    weights = [n for n in named_weights(model) if "seed_gen" not in n]
    assert sorted(names) == sorted(weights)
    assert model.config.start_id == 0
    assert model.config.end_id == 1


def test_files_and_copies(tmp_path):
    """Several files, half precision, and tables under all three names."""
    tensors = case.tensors_of(case.SWITCH)
    half = {n: t.astype(ml_dtypes.bfloat16) for n, t in tensors.items()}
    copies = {
        f"{stack}.embed_tokens.weight": half["shared.weight"]
        for stack in ("encoder", "decoder")
    } | {"lm_head.weight": half["shared.weight"]}
    old = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"
    everything = half | copies | {f"{old}.weight": half["shared.weight"]}
    files = {
        name: f"model-0000{1 + i % 2}-of-00002.safetensors"
        for i, name in enumerate(everything)
    }
    case.write(tmp_path, case.SWITCH, everything, files)
    model = conversion.load_hugging_face(tmp_path)
    exact = {n: t.astype("float32") for n, t in half.items()}
    np.testing.assert_allclose(
        answer(model), expected(case.SWITCH, exact), rtol=1e-4, atol=1e-4
    )
    loaded = conversion.load_hugging_face(tmp_path, dtype="bfloat16")
    assert loaded.encoder.final_norm.scale.dtype == "bfloat16"


def test_stacks_with_tables_of_their_own(tmp_path):
    tensors = case.tensors_of(case.T5_1_1)
    shared = tensors.pop("shared.weight")
    tensors["encoder.embed_tokens.weight"] = shared
    tensors["decoder.embed_tokens.weight"] = shared[::-1].copy()
    case.write(tmp_path, case.T5_1_1, tensors)
    model = conversion.load_hugging_face(tmp_path)
    np.testing.assert_allclose(
        answer(model), expected(case.T5_1_1, tensors), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("tied", "scaled"), [(True, False), (False, True)], ids=["tied", "own"]
)
def test_heads_that_are_scaled_otherwise(tied, scaled, tmp_path):
    """The table without T5 1.0's scale; a head of its own with it."""
    config = {**case.T5, "scale_decoder_outputs": scaled}
    tensors = case.tensors_of({**config, "tie_word_embeddings": tied})
    case.write(tmp_path, config, tensors)
    model = conversion.load_hugging_face(tmp_path)
    wanted = reference.logits(tensors, SOURCE[0], TARGET[0], 2, "relu", scaled)
    np.testing.assert_allclose(answer(model)[0], wanted, rtol=1e-4, atol=1e-4)


def test_a_head_in_half_precision_is_scaled_in_full(tmp_path):
    tensors = {
        name: tensor.astype(ml_dtypes.bfloat16)
        for name, tensor in case.tensors_of(case.T5_1_1).items()
    }
    config = case.T5_1_1 | {"scale_decoder_outputs": True}
    case.write(tmp_path, config, tensors)
    model = conversion.load_hugging_face(tmp_path)
    head = tensors["lm_head.weight"].astype("float32").T * 8**-0.5
    np.testing.assert_allclose(model.head.kernel, head, rtol=1e-6)


def test_large_tensors_are_read_in_parts(tmp_path, monkeypatch):
    """Rows that do not fill the last part, and single ones."""
    stored = "keras_moe.conversion.checkpoints._stored_tensor"
    tensors = case.tensors_of(case.T5_1_1)
    case.write(tmp_path, case.T5_1_1, tensors)
    whole = conversion.load_hugging_face(tmp_path)
    for size in (1, 150):
        monkeypatch.setattr(f"{stored}._CHUNK_BYTES", size)
        parts = conversion.load_hugging_face(tmp_path)
        for weight, part in zip(whole.weights, parts.weights, strict=True):
            np.testing.assert_array_equal(weight, part, err_msg=weight.path)


def test_a_model_that_was_loaded_is_a_model(tmp_path):
    case.write(tmp_path, case.T5, case.tensors_of(case.T5))
    model = conversion.load_hugging_face(tmp_path)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(answer(again), answer(model))
    tokens = np.asarray(model.generate(SOURCE, max_length=3)["token_ids"])
    # The best of what follows the start, alone.
    first = model(
        {
            "encoder_token_ids": SOURCE,
            "decoder_token_ids": np.zeros((2, 1), "int32"),
        }
    )
    np.testing.assert_array_equal(tokens[:, 0], np.argmax(first[:, 0], -1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_shard_bytes", [10**9, 700])
def test_what_is_saved_is_what_was_loaded(kind, max_shard_bytes, tmp_path):
    config = KINDS[kind]
    tensors = case.tensors_of(config)
    (tmp_path / "a").mkdir()
    case.write(tmp_path / "a", config, tensors)
    model = conversion.load_hugging_face(tmp_path / "a")
    conversion.save_hugging_face(
        model, tmp_path / "b", max_shard_bytes=max_shard_bytes
    )
    saved: dict = {}
    for path in (tmp_path / "b").glob("*.safetensors"):
        saved |= load_file(path)
    assert sorted(saved) == sorted(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(saved[name], tensor, err_msg=name)
    written = json.loads((tmp_path / "b/config.json").read_text())
    assert {n: written[n] for n in config} == config
    again = conversion.load_hugging_face(tmp_path / "b")
    assert again.config == model.config


def test_what_only_training_asks_comes_back(tmp_path):
    settings = {
        "capacity_factor": None,
        "expert_dropout_rate": 0.0,
        "layer_dropout_rate": 0.25,
        "report_metrics": False,
    }
    model = SwitchTransformer.from_preset("switch_tiny", **settings)
    conversion.save_hugging_face(model, tmp_path)
    loaded = conversion.load_hugging_face(tmp_path).config
    assert settings == {name: getattr(loaded, name) for name in settings}
