"""Wall-clock times of the exported decoder loop and the whole signature."""

import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.shared.alternating import seconds_in_turns
from benchmarks.shared.report import Report
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import Greedy
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import decode_from
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text

# Words that are timed: each decoder decodes each of them in every round.
_WORDS = 160
_ROUNDS = 9
_NAMES = ("full", "early")


def export_loops(
    model: SwitchTransformer, functions: dict[str, dict[str, Any]]
) -> Any:
    """Writes decoder loops over encoded words, and loads them again.

    Args:
        model: the model.
        functions: name to arguments of `keras_moe.generation.decode_from`.
    """
    ids = tf.TensorSpec([None, None], tf.int32, name="ids")
    memory = tf.TensorSpec(
        [None, None, model.config.model_dim], tf.float32, name="memory"
    )

    def loop(options: dict[str, Any]) -> Callable:
        def run(ids, memory):
            mask = ids != model.config.pad_id
            return decode_from(
                model, memory, mask, text.MAX_PHONEMES, **options
            )

        return tf.function(run, input_signature=[ids, memory], autograph=False)

    module = tf.Module()
    module.variables_ = [weight.value for weight in model.weights]
    signatures = {name: loop(each) for name, each in functions.items()}
    with tempfile.TemporaryDirectory() as directory:
        tf.saved_model.save(module, directory, signatures=signatures)
        return tf.saved_model.load(directory)


def speedups(
    functions: dict[str, Callable[[Any], Any]], batches: list[Any]
) -> dict[str, float]:
    """Returns how much faster each is than the first, and its seconds."""

    def over_all(function):
        def run():
            for batch in batches:
                function(batch)

        return run

    seconds = seconds_in_turns(
        {name: over_all(function) for name, function in functions.items()},
        _ROUNDS,
        warm_up_rounds=1,
    )
    return {
        name: statistics.median(
            first / other
            for first, other in zip(
                next(iter(seconds.values())), each, strict=True
            )
        )
        for name, each in seconds.items()
    } | {
        f"{name}_ms": 1000 * statistics.median(each) / len(batches)
        for name, each in seconds.items()
    }


def encoded_batches(
    model: SwitchTransformer, words: list[str], size: int
) -> list[dict[str, Any]]:
    """Returns the inputs of the decoding loops, `size` words at a time."""
    batches = []
    for start in range(0, len(words), size):
        ids = text.encode_words(tf.constant(words[start : start + size]))
        ids = ids["encoder_token_ids"]
        # Cut the batch to its longest word here: nothing after this trims
        # padding.
        used = int(np.max(np.sum(ids != model.config.pad_id, axis=1)))
        ids = tf.cast(ids[:, :used], tf.int32)
        batches.append(
            {"ids": ids, "memory": model.encode(ids, training=False)[0]}
        )
    return batches


def report_times(
    report: Report,
    model: SwitchTransformer,
    policy: EarlyExitPolicy,
    served: Any,
    plain: Any,
    words: list[str],
) -> None:
    """Adds speed-ups at batch 1 and 8, of the loop and of the signature."""
    words = words[:: max(1, len(words) // _WORDS)][:_WORDS]
    loops = export_loops(model, {"full": {}, "early": {"early_exit": policy}})
    signatures = {
        "full": plain.signatures["serving_default"],
        "early": served.signatures["serving_default"],
    }
    for size in (1, 8):
        batches = encoded_batches(model, words, size)
        ratios = speedups(
            {
                name: lambda batch, name=name: loops.signatures[name](**batch)
                for name in _NAMES
            },
            batches,
        )
        texts = [
            tf.constant(words[start : start + size])
            for start in range(0, len(words), size)
        ]
        whole = speedups(
            {
                name: lambda batch, name=name: signatures[name](word=batch)
                for name in _NAMES
            },
            texts,
        )
        deepest = np.concatenate(
            [
                _deepest(loops.signatures["early"](**batch)["exit_layer"])
                for batch in batches
            ]
        )
        floor = model.config.num_decoder_layers / float(deepest.mean())
        report.add_figures(
            {
                f"loop_full_batch{size}_ms": ratios["full_ms"],
                f"loop_early_batch{size}_ms": ratios["early_ms"],
                f"signature_speedup_batch{size}": whole["early"],
                f"signature_early_batch{size}_ms": whole["early_ms"],
                f"layers_over_deepest_batch{size}": floor,
            }
        )
        if size == 1:
            report.add_claim("speedup_batch1", ratios["early"], 2.3, ">=")
        else:
            report.add_figures({"speedup_batch8": ratios["early"]})
            report.add_claim(
                "speedup_batch8_over_floor",
                ratios["early"] / floor,
                0.85,
                ">=",
            )


def report_self_speculation(
    report: Report, model: SwitchTransformer, words: list[str]
) -> None:
    """Adds how much faster drafting is than full greedy decoding."""
    words = words[:: max(1, len(words) // _WORDS)][:_WORDS]
    drafts = {
        f"draft{layer}x{length}": {"strategy": SelfSpeculative(layer, length)}
        for layer, length in ((2, 4), (4, 4))
    }
    loops = export_loops(model, {"full": {"strategy": Greedy()}, **drafts})
    ratios = speedups(
        {
            name: lambda batch, name=name: loops.signatures[name](**batch)
            for name in ("full", *drafts)
        },
        encoded_batches(model, words, 1),
    )
    report.add_figures(
        {f"self_speculative_{name}_speedup": ratios[name] for name in drafts}
    )


def _deepest(exit_layer: Any) -> np.ndarray:
    """Returns the greatest exit layer of each step that ran."""
    deepest = np.max(exit_layer, axis=0)
    return deepest[deepest > 0]
