"""`export` says where random features are noise, or were never fitted."""

import warnings

import numpy as np
import pytest

from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import RandomFeatures
from keras_moe.models import SwitchTransformer
from keras_moe.serving import export
from keras_moe.serving.exporting import _export


def test_says_so_for_each_layer(tmp_path, monkeypatch):
    # What is written takes long, and is no matter here.
    monkeypatch.setattr(_export, "write_endpoints", lambda *_: None)
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        attention="random_feature",
        num_random_features=16,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
    )
    ids = np.ones((1, 3), "int32")
    model({"encoder_token_ids": ids, "decoder_token_ids": ids})
    layers = [x for x in flatten_layers(model) if isinstance(x, RandomFeatures)]
    assert len(layers) == 3

    def said():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            export(model, tmp_path / "1", lambda x: x, lambda x: x)
        texts = (str(warning.message) for warning in caught)
        return sorted(text for text in texts if "relative_variance" in text)

    assert all("never fitted" in text for text in said())
    assert len(said()) == 3
    for layer in layers:
        layer.num_updates.assign(1)
    assert said() == []
    layers[0].predicted_variance.assign(
        np.full(layers[0].predicted_variance.shape, 0.25)
    )
    (text,) = said()
    assert text.startswith(layers[0].relative_variance.name + " is 0.25")
    with pytest.warns(UserWarning, match="50% of their size"):
        export(model, tmp_path / "1", lambda x: x, lambda x: x)
