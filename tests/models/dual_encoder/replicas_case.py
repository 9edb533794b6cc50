"""A dual encoder on two devices, in a process of its own."""

import keras
import numpy as np
import tensorflow as tf

from keras_moe.models import DualEncoder
from keras_moe.training import Trainer


def make():
    keras.utils.set_random_seed(0)
    model = DualEncoder(
        keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(3, activity_regularizer="l2"),
            ]
        )
    )
    model.compile(keras.optimizers.SGD(0.1))
    return model


def main():
    """Each replica has the candidates of its own half of the batch."""
    rng = np.random.default_rng(0)
    x = {name: rng.random((8, 5), "float32") for name in ("query", "document")}
    y = np.arange(8)
    model = make()
    with tf.GradientTape() as tape:
        losses = []
        for half in (slice(0, 4), slice(4, 8)):
            part = {name: each[half] for name, each in x.items()}
            y_pred = model(part, training=True)
            losses.append(model.compute_loss(part, y[half], y_pred))
        loss = sum(losses) / 2
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [
        variable.numpy() - 0.1 * gradient.numpy()
        for variable, gradient in zip(
            model.trainable_variables, gradients, strict=True
        )
    ]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = make()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    history = Trainer(model).fit(data, verbose=0).history
    np.testing.assert_allclose(history["loss"], [float(loss)], rtol=1e-5)
    assert history["in_batch_negatives"] == [3.0]
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    main()
