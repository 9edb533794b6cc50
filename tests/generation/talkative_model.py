"""A model without training whose tokens leave after all sorts of layers."""

import keras

from keras_moe.models import SwitchTransformer


def talkative_model(seed=1, num_decoder_layers=3, **sizes):
    keras.utils.set_random_seed(seed)
    sizes = {"num_experts": 0, **sizes}
    model = SwitchTransformer.from_preset(
        "switch_tiny", num_decoder_layers=num_decoder_layers, **sizes
    )
    for weight in model.trainable_variables:
        if "embedding" in weight.path:
            weight.assign(weight * 3.0)
        elif "decoder" in weight.path and "norm" not in weight.path:
            weight.assign(weight * 2.0)
    return model
