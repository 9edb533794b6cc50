"""Presets, by name and from a directory."""

import resource

import numpy as np
import pytest

from keras_moe.models import SwitchTransformer
from keras_moe.models import SwitchTransformerConfig
from tests.models.switch_transformer.switch_transformer_case import data
from tests.models.switch_transformer.switch_transformer_case import make


def test_presets_by_name():
    model = SwitchTransformer.from_preset("switch_tiny", hidden_dim=8)
    assert model.config.hidden_dim == 8
    for preset in SwitchTransformer.presets.values():
        SwitchTransformerConfig(**preset["config"])
        assert preset["description"]
    with pytest.raises(ValueError, match="switch_tiny.*'switch_teeny'"):
        SwitchTransformer.from_preset("switch_teeny")


def test_preset_directory_round_trip(tmp_path):
    model, inputs = make("two vocabularies, untied"), data()
    model.save_to_preset(str(tmp_path / "preset"))
    loaded = SwitchTransformer.from_preset(str(tmp_path / "preset"))
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    half = SwitchTransformer.from_preset(
        str(tmp_path / "preset"), dtype="mixed_bfloat16"
    )
    assert half.dtype_policy.name == "mixed_bfloat16"


def test_a_preset_directory_takes_overrides(tmp_path):
    model = SwitchTransformer.from_preset("switch_tiny")
    model.save_to_preset(str(tmp_path))
    loaded = SwitchTransformer.from_preset(
        str(tmp_path), vocabulary_size=32, dropout_rate=0.5
    )
    assert loaded.config.dropout_rate == 0.5
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError):
        SwitchTransformer.from_preset(str(tmp_path), vocabulary_size=40)


def test_a_full_disk_is_an_error_and_leaves_the_old_preset(tmp_path):
    # HDF5 would end the process by a segmentation fault.
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    model.save_to_preset(str(tmp_path))
    before = sorted(path.name for path in tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            model.save_to_preset(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert SwitchTransformer.from_preset(str(tmp_path)).weights


def test_a_directory_of_hugging_face_names_its_reader(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match=r"`keras_moe\.conversion\.load_hugg"):
        SwitchTransformer.from_preset(str(tmp_path))
