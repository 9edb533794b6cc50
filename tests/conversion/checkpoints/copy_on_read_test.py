"""Weights that were loaded are read where they lie, without copies."""

import numpy as np

from keras_moe import conversion
from keras_moe.keras_internals import backend_variable
from keras_moe.models import SwitchTransformer


def test_reads_share_the_memory_of_a_loaded_weight(tmp_path):
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_experts=2,
    )
    conversion.save_hugging_face(model, tmp_path / "saved")
    loaded = conversion.load_hugging_face(tmp_path / "saved")
    for weight in loaded.weights:
        value = backend_variable(weight)
        one, two = value.read_value(), value.read_value()
        if one.shape.rank:
            address, again = (
                np.asarray(memoryview(each)).ctypes.data for each in (one, two)
            )
            assert address == again, weight.path
