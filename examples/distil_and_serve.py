"""A dense student of a sparse teacher, exported, served and asked.

Command:  python examples/distil_and_serve.py  (needs keras-moe[serving])
Time:     under a minute on two cores
Expected: the teacher, of 166,400 weights, spells all of 1,000 numbers right,
          the student, of 42,848, 99.2 %: it has learned from nearly half of
          them, which are short. Served, it spells 1042 and 314159 right
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from data import numbers

import keras_moe


def make_model(layers: int, experts: int) -> keras.Model:
    """A Transformer from digits to words."""
    return keras_moe.models.SwitchTransformer(
        vocabulary_size=len(numbers.SYMBOLS),
        model_dim=32,
        hidden_dim=128,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=layers,
        num_experts=experts,
        moe_every=2,
    )


def right(model: keras.Model, pairs: numbers.Pairs) -> float:
    """Returns which share of the numbers a model spells right."""
    answer = model.generate(pairs.sources, max_length=numbers.TARGET_LENGTH)
    return np.mean((np.array(answer["token_ids"]) == pairs.targets).all(axis=1))


def tokenize(digits: tf.Tensor) -> dict[str, tf.Tensor]:
    """Makes ids of strings of digits, inside the served graph."""
    characters = tf.strings.bytes_split(digits).with_row_splits_dtype("int64")
    ids = tf.strings.to_number(characters, tf.int32) + 2  # as in SYMBOLS
    end = tf.ones([tf.shape(digits)[0], 1], tf.int32)
    return {"encoder_token_ids": tf.concat([ids, end], axis=1).to_tensor(0)}


def detokenize(ids: tf.Tensor) -> tf.Tensor:
    """Makes words of ids."""
    words = tf.strings.reduce_join(
        tf.gather(tf.constant(numbers.SYMBOLS), ids), axis=1, separator=" "
    )
    return tf.strings.strip(words)


def main() -> None:
    """Trains a teacher, then a student of it, and serves the student."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run")
    quick = parser.parse_args().quick
    keras.utils.set_random_seed(0)
    pairs = numbers.load(1_500 if quick else 9_000)
    test = numbers.Pairs(pairs.sources[:1000], pairs.targets[:1000])
    sources, targets = pairs.sources[1000:], pairs.targets[1000:]
    shifted = keras_moe.ops.shift_right(targets)
    inputs = {"encoder_token_ids": sources, "decoder_token_ids": shifted}
    epochs = 1 if quick else 8

    teacher = make_model(layers=4, experts=4)
    teacher.compile(
        keras.optimizers.Adam(5e-3), keras_moe.losses.token_crossentropy
    )
    teacher.fit(inputs, targets, batch_size=128, epochs=epochs, verbose=2)
    student = make_model(layers=1, experts=0)
    print(keras_moe.distillation.initialize_dense_student(teacher, student))
    distiller = keras_moe.distillation.SparseToDenseDistiller(teacher, student)
    distiller.compile(keras.optimizers.Adam(5e-3))
    distiller.fit(inputs, targets, batch_size=128, epochs=epochs, verbose=2)
    for name, model in (("teacher", teacher), ("student", student)):
        print(
            f"{name}: {model.count_params():,} weights, "
            f"{right(model, test):.1%} right"
        )

    with tempfile.TemporaryDirectory() as folder:
        models = pathlib.Path(folder) / "spell"
        keras_moe.serving.export(
            student,
            str(models / "1"),
            tokenize,
            detokenize,
            max_length=numbers.TARGET_LENGTH,
        )
        with keras_moe.serving.Server("spell", str(models)) as server:
            server.wait_until_available()
            client = keras_moe.serving.Client(
                grpc_port=server.grpc_port, model_name="spell"
            )
            answer = client.predict({"inputs": ["1042", "314159"]})
    for line in answer["outputs"]:
        print("served:", line.decode())


if __name__ == "__main__":
    main()
