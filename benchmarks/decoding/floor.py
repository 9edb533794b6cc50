"""The products of one answer and nothing else, compiled as a straight line."""

import numpy as np
import tensorflow as tf

from benchmarks.decoding import student
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.report import Report
from keras_moe.generation import compile_decoder
from keras_moe.models import SwitchTransformer

_LENGTH = student.LENGTHS[0]
_WARM_UP = 5


class Floor(tf.Module):
    """What a decoder multiplies for one word, each product fed by another.

    Args:
        config: the student's.
    """

    def __init__(self, config):
        super().__init__()
        self._heads = config.num_heads
        dim, hidden = config.model_dim, config.hidden_dim
        shapes = {"q": (dim, dim), "k": (dim, dim), "v": (dim, dim)}
        shapes |= {"o": (dim, dim), "wi": (dim, hidden), "wo": (hidden, dim)}
        across = {f"across_{name}": (dim, dim) for name in "qkvo"}
        choose = np.random.default_rng(0)

        def variables(shapes):
            return {
                name: tf.Variable(
                    choose.normal(size=shape, scale=shape[0] ** -0.5),
                    dtype=tf.float32,
                )
                for name, shape in shapes.items()
            }

        self.encoder = [
            variables(shapes) for _ in range(config.num_encoder_layers)
        ]
        self.decoder = [
            variables(shapes | across) for _ in range(config.num_decoder_layers)
        ]
        self.head = variables({"head": (dim, config.output_size)})["head"]
        self.cache = tf.Variable(
            choose.normal(size=(student.TOKENS, dim)), dtype=tf.float32
        )

    def multiply(self, x: tf.Tensor) -> tf.Tensor:
        """Returns something that all products have a part in.

        Args:
            x: `(length, model_dim)`, what the encoder starts from.
        """
        for layer in self.encoder:
            k, v = x @ layer["k"], x @ layer["v"]
            attended = self._attend(x @ layer["q"], k, v) @ layer["o"]
            x = self._feed(x, attended, layer)
        memories = [
            (x @ layer["across_k"], x @ layer["across_v"])
            for layer in self.decoder
        ]
        y, said = x[:1], 0.0
        for _ in range(student.TOKENS):
            for layer, memory in zip(self.decoder, memories, strict=True):
                # The last slot is of this position.
                k, v = (
                    tf.concat([self.cache[1:], y @ layer[name]], 0)
                    for name in "kv"
                )
                y = self._attend(y @ layer["q"], k, v) @ layer["o"]
                y = self._attend(y @ layer["across_q"], *memory)
                y = self._feed(y, y @ layer["across_o"], layer)
            said += tf.reduce_max(y @ self.head)
        return said

    def _attend(self, q, k, v):
        q, k, v = (
            tf.transpose(
                tf.reshape(t, (t.shape[0], self._heads, -1)), (1, 0, 2)
            )
            for t in (q, k, v)
        )
        attended = tf.matmul(tf.matmul(q, k, transpose_b=True), v)
        attended = tf.transpose(attended, (1, 0, 2))
        return _scaled(tf.reshape(attended, (q.shape[1], -1)))

    @staticmethod
    def _feed(x, attended, layer):
        return x + _scaled(attended @ layer["wi"] @ layer["wo"])


def _scaled(x):
    # Keeps numbers from growing out of float32, or into denormals.
    return x * tf.math.rsqrt(tf.reduce_mean(x * x))


def report_floor(report: Report, model: SwitchTransformer, rounds: int) -> None:
    """Adds the time of compiled decoding over that of its products."""
    program = compile_decoder(
        model, student.TOKENS, jit_compile=True, input_shape=(1, _LENGTH)
    )
    ids = tf.fill([1, _LENGTH], 5)
    floor = tf.function(
        Floor(model.config).multiply, jit_compile=True, autograph=False
    )
    x = tf.random.stateless_normal((_LENGTH, model.config.model_dim), (1, 2))
    if not np.isfinite(floor(x).numpy()):
        raise RuntimeError("The floor is not finite.")
    times = median_milliseconds(
        {
            "decode": lambda: program(ids)["token_ids"].numpy(),
            "floor": lambda: floor(x).numpy(),
        },
        rounds,
        _WARM_UP,
    )
    report.add_figures({f"{name}_xla_b1_ms": ms for name, ms in times.items()})
    report.add_claim(
        "xla_over_floor_b1", times["decode"] / times["floor"], 3.0, "<="
    )
