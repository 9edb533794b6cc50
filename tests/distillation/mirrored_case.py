"""Cases that need two devices: `python -m tests.distillation.mirrored_case`.

Logical devices are made before TensorFlow starts, hence once a process.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distillation import EarlyExitDistiller
from keras_moe.distillation import HiddenStateDistillation
from keras_moe.distillation import SparseToDenseDistiller
from keras_moe.distillation import TokenDistillation
from keras_moe.losses import token_crossentropy
from keras_moe.models import SwitchTransformer
from keras_moe.training import EarlyExitTrainer

# Each replica gets as many tokens: its mean then weighs as much.
TARGET = np.array([[4, 5, 6, 1], [7, 1, 0, 0], [4, 1, 0, 0], [5, 6, 7, 1]])
SOURCE = np.array([[5, 6, 7, 1], [8, 9, 1, 0], [3, 4, 1, 0], [5, 1, 0, 0]])
INPUTS = {
    "encoder_token_ids": SOURCE,
    "decoder_token_ids": np.pad(TARGET[:, :-1], [(0, 0), (1, 0)]),
}


def make_trainer(kind):
    keras.utils.set_random_seed(0)
    teacher, student = (
        SwitchTransformer.from_preset(
            "switch_tiny", num_experts=experts, dropout_rate=0.0
        )
        for experts in (4, 0)
    )
    if kind is EarlyExitTrainer:
        return EarlyExitTrainer(student), student
    losses = [TokenDistillation(), HiddenStateDistillation(2, 1)]
    return kind(teacher, student, losses), student


def train(strategy, kind):
    with strategy.scope():
        trainer, student = make_trainer(kind)
        trainer.compile(
            keras.optimizers.SGD(0.1), token_crossentropy, jit_compile=False
        )
    data = tf.data.Dataset.from_tensor_slices((INPUTS, TARGET)).batch(4)
    history = trainer.fit(data, epochs=2, verbose=0).history
    weights = [weight.numpy() for weight in student.weights]
    return history["loss"], weights


def main():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for kind in (EarlyExitTrainer, SparseToDenseDistiller, EarlyExitDistiller):
        losses, weights = train(tf.distribute.get_strategy(), kind)
        spread_losses, spread_weights = train(mirrored, kind)
        np.testing.assert_allclose(spread_losses, losses, rtol=1e-5)
        for spread, whole in zip(spread_weights, weights, strict=True):
            np.testing.assert_allclose(spread, whole, atol=1e-5)
        print(f"{kind.__name__}: two replicas train as one")


if __name__ == "__main__":
    main()
