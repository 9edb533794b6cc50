"""A model that leaves at many layers, and what may be said of its answers."""

import keras
import numpy as np
import tensorflow as tf

from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from keras_moe.models import SwitchTransformer
from tests.reference import early_exit as reference

LENGTH = 8
# Some tokens leave early and some do not.
THRESHOLDS = {
    "softmax": 0.3,
    "state": 0.86,
    "entropy": 0.55,
    "classifier": 0.7,
}


def make_model(seed=1, **sizes):
    """Untrained, with weights so large that it does not repeat itself."""
    keras.utils.set_random_seed(seed)
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        **{
            "num_encoder_layers": 1,
            "num_decoder_layers": 4,
            "num_experts": 0,
            "exit_classifier": True,
            "tie_embeddings": False,
            **sizes,
        },
    )
    for weight in model.trainable_variables:
        if "norm" in weight.path:
            continue
        if "decoder" in weight.path:
            weight.assign(2.0 * weight)
        if "embedding" in weight.path or "head" in weight.path:
            weight.assign(3.0 * weight)
    if model.config.exit_classifier:
        kernel = model.exit_classifier.kernel
        kernel.assign(2.0 * kernel)
    return model


def make_source():
    """Six rows: one is short, one is empty; answers end at different times."""
    ids = [
        [28, 6, 3, 16, 12, 28, 25],
        [14, 3, 16, 13, 17, 27, 6],
        [27, 22, 17, 12, 0, 0, 0],
        [15, 19, 28, 14, 13, 31, 17],
        [0, 0, 0, 0, 0, 0, 0],
        [12, 27, 21, 21, 13, 12, 13],
    ]
    return np.array(ids, "int32")


def policy(confidence="softmax", **options):
    options.setdefault("threshold", THRESHOLDS[confidence])
    return EarlyExitPolicy(confidence, **options)


def run(model, ids, early_exit=None, strategy=None, threshold=None):
    """Decodes without a graph: to trace one takes longer."""
    return arrays(
        decode(
            model,
            tf.constant(ids),
            LENGTH,
            strategy=strategy,
            early_exit=early_exit,
            threshold=threshold,
        )
    )


def compiled(model, early_exit, **options):
    """Returns a function of ids and thresholds, or of one threshold."""
    decoder = compile_decoder(model, LENGTH, early_exit=early_exit, **options)

    def decode(ids, threshold=early_exit.threshold):
        thresholds = np.broadcast_to(np.float32(threshold), len(ids))
        return arrays(decoder(tf.constant(ids), tf.constant(thresholds)))

    return decode


def arrays(answer):
    return {name: np.asarray(value) for name, value in answer.items()}


def assert_varied(answer, num_layers=3):
    """Several layers are left after, and rows end at different times."""
    depths = answer["exit_layer"]
    assert len(set(depths[depths > 0])) >= num_layers
    assert len(set((depths > 0).sum(axis=1))) > 2
    assert len(set(answer["token_ids"].ravel())) > 6


def assert_same(received, expected):
    received, expected = arrays(received), arrays(expected)
    assert set(received) == set(expected)
    for name, value in expected.items():
        if value.dtype == np.int32:
            np.testing.assert_array_equal(received[name], value, name)
        else:
            np.testing.assert_allclose(
                received[name], value, rtol=1e-4, atol=1e-5, err_msg=name
            )


def expected_answer(model, ids, early_exit, exits=None, thresholds=None):
    """What the reference says of a batch, row by row."""
    answer = {
        "token_ids": np.zeros((len(ids), LENGTH), "int32"),
        "exit_layer": np.zeros((len(ids), LENGTH), "int32"),
        "confidence": np.zeros((len(ids), LENGTH)),
        "token_log_probability": np.zeros((len(ids), LENGTH)),
    }
    for row, words in enumerate(ids):
        if not np.any(words):
            continue
        threshold = early_exit.threshold
        if thresholds is not None:
            threshold = thresholds[row]
        said = reference.decode_row(
            model,
            words[words != 0],
            LENGTH,
            early_exit.confidence,
            [
                reference.threshold_at(
                    threshold,
                    position,
                    LENGTH,
                    early_exit.decay,
                    early_exit.decay_temperature,
                )
                for position in range(LENGTH)
            ],
            exits=exits,
            shortlist=early_exit.shortlist_size,
        )
        for name, values in zip(answer, said, strict=True):
            answer[name][row, : len(values)] = values
    answer["log_probability"] = answer["token_log_probability"].sum(axis=1)
    return answer
