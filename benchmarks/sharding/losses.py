"""Program: losses of one training, on one device and on a mesh.

    python -m benchmarks.sharding.losses KIND BATCH EXPERT MODEL STEPS

Prints both as JSON, and how many bytes of experts' kernels a device holds.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from benchmarks.sharding.program import make_devices
from keras_moe import distribution
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import Experts
from keras_moe.layers import Router
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.ops import shift_right

KINDS: dict[str, dict] = {
    "switch": {},
    "top_2": {"encoder_router": "gshard", "decoder_router": "gshard"},
    "expert_choice": {"encoder_router": "expert_choice"},
    "random_features": {
        "attention": "random_feature",
        "num_random_features": 16,
        "feature_map": "favor+",
    },
}
_BATCH, _LENGTH, _VOCABULARY, _GROUP_SIZE = 16, 8, 32, 16


@keras.saving.register_keras_serializable("benchmarks")
class DenseAdam(keras.optimizers.Adam):
    """Adam that updates embeddings alike on one device and on many.

    Keras's own takes the rows of an embedding's gradient one by one, where one
    device has them: it adds up squares where it should square the sum.
    """

    def apply(self, grads, trainable_variables=None):
        dense = [tf.convert_to_tensor(gradient) for gradient in grads]
        super().apply(dense, trainable_variables)


def make_model(kind: str) -> keras.Model:
    """Returns a compiled model, the same whenever it is made."""
    keras.utils.set_random_seed(0)
    model = SwitchTransformer(
        vocabulary_size=_VOCABULARY,
        num_encoder_layers=2,
        num_decoder_layers=2,
        model_dim=16,
        hidden_dim=32,
        num_heads=2,
        num_experts=8,
        # Dropout is off: on a mesh it draws other masks than on one device.
        dropout_rate=0.0,
        expert_dropout_rate=0.0,
        **KINDS[kind],
    )
    for layer in flatten_layers(model):
        if isinstance(layer, Router):
            layer.group_size = _GROUP_SIZE
    model.compile(
        DenseAdam(0.003, global_clipnorm=1.0), loss=token_crossentropy
    )
    return model


def batch(step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns sources and targets: each token is the one before, tripled."""
    choose = np.random.default_rng(step % 8)
    source = choose.integers(2, _VOCABULARY, (_BATCH, _LENGTH))
    source[:, -2:] *= choose.integers(0, 2, (_BATCH, 2))  # padding
    target = (3 * source) % _VOCABULARY
    inputs = {
        "encoder_token_ids": source,
        "decoder_token_ids": np.asarray(shift_right(target)),
    }
    return inputs, target


def train(model: keras.Model, steps: int) -> list[float]:
    """Trains; returns the loss of each step."""
    return [
        float(model.train_on_batch(*batch(step), return_dict=True)["loss"])
        for step in range(steps)
    ]


def expert_bytes(model: keras.Model) -> tuple[int, int]:
    """Returns the bytes of experts' kernels: of the fullest device, and all."""
    kernels = [
        bank.kernel.value.read_value()
        for layer in flatten_layers(model)
        if isinstance(layer, Experts)
        for bank in layer.banks
    ]
    whole = sum(kernel.shape.num_elements() for kernel in kernels)
    parts = np.array(
        [
            [part.shape.num_elements() for part in dtensor.unpack(kernel)]
            for kernel in kernels
        ]
    )
    size = kernels[0].dtype.size
    return int(parts.sum(axis=0).max()) * size, whole * size


def main(kind: str, *numbers: str) -> None:
    """Trains twice, and prints."""
    *sizes, steps = map(int, numbers)
    make_devices()
    model = make_model(kind)
    one = train(model, steps)
    model = make_model(kind)
    model(batch(0)[0])
    engine = distribution.engine(distribution.device_mesh(*sizes))
    engine.distribute(model)
    largest, whole = expert_bytes(model)
    found = {
        "one": one,
        "mesh": train(model, steps),
        "expert_bytes": largest,
        "all_expert_bytes": whole,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
