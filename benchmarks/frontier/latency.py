"""How long each word takes: one word at a time, compiled, one thread.

The weights are constants of each program, as they may be in a server, whose
versions never change. Where they are variables, each of them is an argument of
each call: on the machine of the results 1.4 µs, which for a cascade into many
layers is more than its small stage takes.
"""

import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from benchmarks.shared.alternating import seconds_in_turns
from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import word_ids
from keras_moe.calibration import DeferralRule
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import compile_decoder
from keras_moe.models import Cascade
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text

# Ids of a compiled word. Longer words, one in a few hundred, are not timed.
LENGTH = 16
_WARM_UP = 1
# A score that no word reaches.
NEVER = 1e9

Program = Callable[[tf.Tensor], dict[str, tf.Tensor]]
ExitingProgram = Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def timed_words(entries: Entries, count: int) -> np.ndarray:
    """Returns places of words from all of the alphabet, `[count]`."""
    ids = word_ids(entries)
    fits = np.flatnonzero((ids != text.PAD_ID).sum(axis=1) <= LENGTH)
    return fits[np.linspace(0, len(fits) - 1, count).astype(int)]


def rows_of(entries: Entries, places: np.ndarray) -> list[tf.Tensor]:
    """Returns the padded ids of each of these words, int32 `[1, length]`."""
    ids = word_ids(entries)[places, :LENGTH]
    return [tf.constant(row, tf.int32) for row in ids[:, None]]


def compile_stage(model: SwitchTransformer) -> Program:
    """Returns a stage alone, for one word."""
    return _freeze(
        compile_decoder(
            model,
            text.MAX_PHONEMES,
            jit_compile=True,
            input_shape=(1, LENGTH),
        )
    )


def compile_exits(
    model: SwitchTransformer, policy: EarlyExitPolicy
) -> ExitingProgram:
    """Returns a stage with exits, for one word and any threshold."""
    return _freeze(
        compile_decoder(
            model,
            text.MAX_PHONEMES,
            early_exit=policy,
            jit_compile=True,
            input_shape=(1, LENGTH),
        )
    )


def at_threshold(program: ExitingProgram, threshold: float) -> Program:
    """Returns a stage with exits at one threshold."""
    thresholds = tf.constant([threshold], tf.float32)
    return lambda ids: program(ids, thresholds)


def compile_cascade(
    stages: Sequence[SwitchTransformer],
    rule: DeferralRule,
    threshold: float,
    policy: EarlyExitPolicy | None = None,
) -> Program:
    """Returns a cascade of two stages as a whole, for one word.

    Args:
        stages: small and large.
        rule: of the small one.
        threshold: of the rule.
        policy: the small stage's exits.
    """
    cascade = Cascade(
        stages,
        rule.with_threshold(threshold),
        early_exits=[policy, None],
        batch_sizes=(1,),
    )
    return _freeze(
        compile_decoder(
            cascade,
            text.MAX_PHONEMES,
            jit_compile=True,
            input_shape=(1, LENGTH),
        )
    )


def word_milliseconds(
    programs: Mapping[str, Program], rows: Sequence[tf.Tensor], rounds: int
) -> dict[str, np.ndarray]:
    """Times each program on each word.

    A program answers all words before the next has its turn, as a server of
    one model would; rounds go forwards and backwards.

    Args:
        programs: name to program.
        rows: the words.
        rounds: how often each word is timed.

    Returns:
        Name to each word's milliseconds, `[words]`: medians over the rounds.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in programs}

    def turn(name: str) -> None:
        program, taken = programs[name], []
        for row in rows:
            start = time.perf_counter()
            # A program returns before it is through; its answer is awaited.
            program(row)["token_ids"].numpy()
            taken.append(time.perf_counter() - start)
        seconds[name].append(taken)

    seconds_in_turns(
        {name: lambda name=name: turn(name) for name in programs},
        rounds,
        _WARM_UP,
    )
    return {
        name: 1000 * np.median(taken[_WARM_UP:], axis=0)
        for name, taken in seconds.items()
    }


def _freeze(program: Any) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns the same program, with constants in the place of variables."""
    concrete = program.get_concrete_function()
    frozen = convert_variables_to_constants_v2(
        concrete, lower_control_flow=False
    )
    signature, _ = concrete.structured_input_signature
    specs = [spec for spec in signature if isinstance(spec, tf.TensorSpec)]

    def answer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return tf.nest.pack_sequence_as(
            concrete.structured_outputs, frozen(*inputs)
        )

    return tf.function(
        answer, input_signature=specs, jit_compile=True, autograph=False
    )
