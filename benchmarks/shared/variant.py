"""A model of the CMU dictionary that is trained in turns, and its errors."""

import functools
import json
import os
import pathlib
import time
from typing import Any

import keras
import tensorflow as tf

from benchmarks.shared.dictionary import Entries
from keras_moe.metrics import sequence_error_rate
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.training import EarlyExitTrainer
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.presets import from_preset

_STEPS_PER_TURN = 250
_DECODED_AT_ONCE = 1024


class Variant:
    """One model in training: its state on disk and its learning curve.

    Args:
        name: what it is called.
        overrides: in what its `SwitchTransformerConfig` differs.
        config: how long and how to train.
        dropout_rate: dropout, inside experts and elsewhere.
        state: folder of the kept state.
        exits: which exits of the decoder are trained, too; arguments of
            `EarlyExitTrainer`.
    """

    def __init__(
        self,
        name: str,
        overrides: dict[str, Any],
        config: training.TrainingConfig,
        dropout_rate: float,
        state: pathlib.Path,
        exits: dict[str, Any] | None = None,
    ):
        self.name = name
        self.config = config
        keras.utils.set_random_seed(config.seed)
        self.model = from_preset(
            "switch_g2p_demo",
            vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
            target_vocabulary_size=text.target_vocabulary_size(),
            dropout_rate=dropout_rate,
            expert_dropout_rate=dropout_rate,
            **overrides,
        )
        self.trainer = (
            self.model
            if exits is None
            else EarlyExitTrainer(self.model, **exits)
        )
        training.compile_model(self.trainer, config)
        self.trainer.optimizer.build(self.model.trainable_variables)
        self._weights = state / f"{name}.weights.h5"
        self._curve = state / f"{name}.json"
        self.curve: list[dict[str, float]] = []
        self.restore()

    def restore(self) -> None:
        """Takes up the state that was kept last, if any."""
        if self._curve.exists():
            self.curve = json.loads(self._curve.read_text())
            self.trainer.load_weights(self._weights)

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.curve[-1]["step"]) if self.curve else 0

    def turn(self, source, target, validation: Entries) -> None:
        """Trains for one turn, measures, and keeps the state."""
        steps = min(_STEPS_PER_TURN, self.config.steps - self.step)
        began = time.monotonic()
        self.trainer.fit(
            tf.data.Dataset.counter().flat_map(
                training_batches(
                    functools.partial(array_pairs, source, target),
                    self.model.config,
                    self.config.batch_size,
                    # Each turn has its own order of examples, the same whether
                    # training was resumed or not.
                    seed=self.config.seed + self.step,
                )
            ),
            steps_per_epoch=steps,
            callbacks=[training.BudgetedSchedule(self.config, self.step)],
            shuffle=False,
            verbose=0,
        )
        seconds = time.monotonic() - began
        point = {"step": self.step + steps, "seconds": round(seconds, 1)}
        self.curve.append({**point, **error_rates(self.model, validation)})
        self._keep()

    def _keep(self) -> None:
        """Writes the state; the curve last, since `restore` looks for it."""
        partial = self._weights.with_name(f"{self.name}.partial.weights.h5")
        self.trainer.save_weights(partial)
        os.replace(partial, self._weights)
        written = self._curve.with_suffix(".partial")
        written.write_text(json.dumps(self.curve, indent=1))
        os.replace(written, self._curve)


def error_rates(model: SwitchTransformer, entries: Entries) -> dict[str, float]:
    """Decodes words greedily and scores them.

    Returns:
        `phoneme_error_rate` against the nearest listed pronunciation,
        `word_error_rate` (any listed one counts) and
        `word_error_rate_strict` (only the first).
    """
    predicted = []
    for start in range(0, len(entries), _DECODED_AT_ONCE):
        words = [word for word, _ in entries[start : start + _DECODED_AT_ONCE]]
        ids = text.encode_words(tf.constant(words))["encoder_token_ids"]
        decoded = model.generate(ids, max_length=text.MAX_PHONEMES)
        phonemes = text.decode_phonemes(decoded["token_ids"]).numpy()
        predicted += [answer.decode().split() for answer in phonemes]
    listed = [[p.split() for p in ps] for _, ps in entries]
    return {
        "phoneme_error_rate": symbol_error_rate(predicted, listed),
        "word_error_rate": sequence_error_rate(predicted, listed),
        "word_error_rate_strict": sequence_error_rate(
            predicted, listed, mode="strict"
        ),
    }
