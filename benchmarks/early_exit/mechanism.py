"""Program: times what skipped layers save, with exits forced on random weights.

    python -m benchmarks.early_exit.mechanism [--tokens N] [--rounds N] FILE

A decoder of 8 layers, model dimension 512, exported as a SavedModel, on one
thread, in processor time. Where tokens leave is an input of the graph; the
hidden-state confidence is computed all the same, and its value is part of what
is compared, so that nothing can be optimised away.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any

import keras
import tensorflow as tf

from benchmarks.shared.alternating import seconds_in_turns
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitConfidence
from keras_moe.generation import TokenByToken
from keras_moe.generation import decode
from keras_moe.generation import early_exit_decode
from keras_moe.models import SwitchTransformer

LAYERS = 8
VOCABULARIES = (2048, 32_000)
_SOURCE_LENGTH = 16
_NEVER = LAYERS


class ForcedConfidence(ExitConfidence):
    """The hidden-state confidence, overruled by an input.

    Args:
        model: the model.
        policy: the policy.
        exit_layer: int32 scalar, after which layer all tokens leave.
    """

    def __init__(
        self, model: SwitchTransformer, policy: EarlyExitPolicy, exit_layer: Any
    ):
        super().__init__(model, policy)
        self._exit_layer = exit_layer
        self._layer = 0

    def __call__(self, before, after):
        """Measures, and says what the input says."""
        self._layer += 1  # once for each exit, while the graph is traced
        sure, logits = super().__call__(before, after)
        leaves = tf.cast(self._layer >= self._exit_layer, tf.float32)
        return 4.0 * leaves + 1e-3 * sure, logits


class Endless(TokenByToken):
    """Chooses the likeliest token that does not end the answer."""

    def __init__(self, end_id: int):
        self._end_id = end_id

    def choose(self, logits, position):
        """Returns tokens and log-probabilities."""
        end = tf.range(tf.shape(logits)[-1]) == self._end_id
        log_p = tf.nn.log_softmax(tf.where(end, -1e9, logits))
        token = tf.argmax(log_p, axis=-1, output_type=tf.int32)
        return token, tf.reduce_max(log_p, axis=-1)


def make_model(vocabulary: int) -> SwitchTransformer:
    """Returns the model with random weights."""
    keras.utils.set_random_seed(0)
    return SwitchTransformer(
        vocabulary_size=vocabulary,
        model_dim=512,
        num_encoder_layers=1,
        num_decoder_layers=LAYERS,
        num_heads=8,
        hidden_dim=2048,
        num_experts=0,
        dropout_rate=0.0,
        position_encoding="rotary",
    )


def export(model: SwitchTransformer, tokens: int, directory: str) -> Any:
    """Writes the decoders as signatures, and loads them again."""
    ids = tf.TensorSpec([None, _SOURCE_LENGTH], tf.int32, name="ids")
    layer = tf.TensorSpec([], tf.int32, name="exit_layer")
    strategy = Endless(model.config.end_id)

    def full(ids, exit_layer):
        decoded = decode(model, ids, tokens, strategy)
        return {**decoded, "exit_layer": exit_layer}

    def exiting(propagation):
        policy = EarlyExitPolicy(
            "state", threshold=2.0, propagation=propagation
        )

        def run(ids, exit_layer):
            forced = ForcedConfidence(model, policy, exit_layer)
            return early_exit_decode(
                model,
                *model.encode(ids, training=False),
                tokens,
                policy,
                strategy,
                confidence=forced,
            )

        return run

    functions = {
        "full": full,
        **{name: exiting(name) for name in ("deferred", "eager")},
    }
    module = tf.Module()
    module.variables_ = [weight.value for weight in model.weights]
    tf.saved_model.save(
        module,
        directory,
        signatures={
            name: tf.function(
                function, input_signature=[ids, layer], autograph=False
            )
            for name, function in functions.items()
        },
    )
    return tf.saved_model.load(directory)


def measure(
    vocabulary: int, batch: int, tokens: int, rounds: int
) -> dict[str, float]:
    """Returns milliseconds a token of each decoder, by where tokens leave."""
    with tempfile.TemporaryDirectory() as directory:
        loaded = export(make_model(vocabulary), tokens, directory)
    ids = tf.random.stateless_uniform(
        (batch, _SOURCE_LENGTH), (1, 2), 2, vocabulary, tf.int32
    )

    def call(name, layer):
        signature = loaded.signatures[name]
        return lambda: signature(ids=ids, exit_layer=tf.constant(layer))

    functions = {
        "full": call("full", _NEVER),
        "never": call("deferred", _NEVER),
        **{
            f"{name}_exit{layer}": call(name, layer)
            for name in ("deferred", "eager")
            for layer in (3, 2)
        },
    }
    for name, function in functions.items():
        _check(name, function(), batch, tokens)
    seconds = seconds_in_turns(functions, rounds, 1, clock=time.process_time)
    return {
        name: 1000 * statistics.median(each) / tokens
        for name, each in seconds.items()
    }


def _check(name: str, decoded: dict, batch: int, tokens: int) -> None:
    """Raises if the exits were not those that were asked for."""
    if name == "full":
        return
    wanted = LAYERS if name == "never" else int(name[-1])
    exits = decoded["exit_layer"].numpy()
    if exits.shape != (batch, tokens) or (exits != wanted).any():
        raise RuntimeError(f"{name} left after {exits}, not {wanted}.")


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    figures = {}
    for vocabulary, batch in ((2048, 1), (2048, 8), (32_000, 1)):
        times = measure(vocabulary, batch, options.tokens, options.rounds)
        figures[f"v{vocabulary}_b{batch}"] = times
    options.file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
