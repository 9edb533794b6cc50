"""A sparse layer in a model of your own: train, save, export.

Command:  python examples/quickstart.py
Time:     under a minute on two cores
Expected: a loss below 0.3 (chance: 2.08); the exported model answers exactly
          as the trained one does
"""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_moe


def make_data(rows: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of digits; the task is to rank each among its neighbours."""
    digits = np.random.default_rng(0).integers(0, 10, size=(rows, 8))
    smaller = digits[:, :, None] > digits[:, None, :]
    return digits, smaller.sum(axis=-1)


def make_model() -> keras.Model:
    """A Transformer block whose feed-forward layer is sparse."""
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(10, 64)(ids)
    attended = keras.layers.MultiHeadAttention(4, 16)(x, x)
    # `keras.layers.Add` hands masks on, which `+` does not.
    x = keras.layers.Add()([x, attended])
    x = keras.layers.RMSNormalization()(x)
    moe = keras_moe.layers.SparseMoE(num_experts=8, hidden_dim=128, name="moe")
    x = keras.layers.Add()([x, moe(x)])
    return keras.Model(ids, keras.layers.Dense(8)(x))


def main() -> None:
    """Trains, exports, and compares the two."""
    keras.utils.set_random_seed(0)
    x, y = make_data()
    model = make_model()
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(x, y, batch_size=256, epochs=20, verbose=2).history
    print(f"loss: {history['loss'][-1]:.3f}")
    left = history["moe/fraction_tokens_left_behind"][-1]
    print(f"tokens left behind in training: {left:.1%}")

    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "exported")
        model.export(path, verbose=False)
        exported = tf.saved_model.load(path)
        served = exported.serve(x[:5].astype("int32"))
    difference = np.abs(served - model.predict(x[:5], verbose=0)).max()
    print(f"largest difference after export: {difference:.1e}")


if __name__ == "__main__":
    main()
