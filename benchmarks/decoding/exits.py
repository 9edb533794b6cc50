"""Early exits against all layers, both compiled by XLA."""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf

from benchmarks.decoding import student
from benchmarks.shared.alternating import median_milliseconds
from benchmarks.shared.report import RESULTS
from benchmarks.shared.report import Report
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import compile_decoder
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import presets
from pipelines.g2p.modules import text

_WORDS = 40
_WARM_UP = 5
_LAYERS = 8
# Every second layer is an exit, as in `benchmarks.early_exit`.
_POLICY = EarlyExitPolicy("softmax", min_exit_layer=2, exit_interval=2)


def make_model() -> SwitchTransformer:
    """Returns the model of `benchmarks.early_exit`, untrained."""
    keras.utils.set_random_seed(0)
    return presets.from_preset(
        "switch_g2p_demo",
        num_experts=0,
        position_encoding="rotary",
        model_dim=192,
        hidden_dim=768,
        num_decoder_layers=_LAYERS,
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(),
    )


def report_exits(report: Report, rounds: int) -> None:
    """Adds the speed-up of leaving where the certified threshold lets leave."""
    model = make_model()
    ids = text.encode_words(tf.constant(student.some_words(_WORDS)))
    ids = tf.cast(ids["encoder_token_ids"][:, : student.LENGTHS[1]], tf.int32)
    policy = dataclasses.replace(
        _POLICY, threshold=_certified_share(model, ids)
    )
    full, early = (
        compile_decoder(
            model,
            student.TOKENS,
            early_exit=each,
            jit_compile=True,
            input_shape=(1, ids.shape[1]),
        )
        for each in (None, policy)
    )
    threshold = tf.constant([policy.threshold])
    rows = [ids[row : row + 1] for row in range(_WORDS)]
    turn = {"full": 0, "early": 0}
    depths = [early(row, threshold)["exit_layer"].numpy() for row in rows]

    def ask(name):
        row = rows[turn[name] % _WORDS]
        turn[name] += 1
        return full(row) if name == "full" else early(row, threshold)

    times = median_milliseconds(
        {
            name: lambda name=name: ask(name)["token_ids"].numpy()
            for name in turn
        },
        rounds,
        _WARM_UP,
    )
    report.add_figures(
        {
            **{f"exits_{name}_xla_b1_ms": ms for name, ms in times.items()},
            "exits_mean_layer": float(np.mean(np.concatenate(depths))),
        }
    )
    report.add_claim(
        "exits_speedup_xla_b1", times["full"] / times["early"], 1.5, ">="
    )


def _certified_share(model: SwitchTransformer, ids: tf.Tensor) -> float:
    """Returns the threshold at which as many tokens leave first as certified.

    Of the last full run of `benchmarks.early_exit`.
    """
    results = json.loads((RESULTS / "early_exit.json").read_text())
    share = results["figures"]["exit_layer_shares"][_POLICY.min_exit_layer - 1]
    at_once = dataclasses.replace(_POLICY, threshold=-1.0)
    answer = model.generate(ids, student.TOKENS, early_exit=at_once)
    sure = answer["confidence"][answer["exit_layer"] > 0]
    return float(np.quantile(sure, 1.0 - share))
