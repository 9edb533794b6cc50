"""The noise of a model's random features."""

import numpy as np

from benchmarks.random_feature_quality.__main__ import worst_variance
from keras_moe.models import SwitchTransformer

IDS = np.array([[5, 6, 7, 1]])
INPUTS = {"encoder_token_ids": IDS, "decoder_token_ids": IDS}


def make(attention):
    model = SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, attention=attention
    )
    model(INPUTS)
    return model


def test_a_figure_that_nobody_measured_is_no_zero():
    assert worst_variance(make("softmax")) is None
    assert np.isnan(worst_variance(make("random_feature")))


def test_a_model_from_a_file_has_the_figure_of_the_trained(tmp_path):
    model = make("random_feature")
    for _ in range(3):
        model(INPUTS, training=True)
    found = worst_variance(model)
    assert found > 0
    model.save_weights(tmp_path / "kept.weights.h5")
    again = make("random_feature")
    again.load_weights(tmp_path / "kept.weights.h5")
    assert worst_variance(again) == found
