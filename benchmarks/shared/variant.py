"""A model that learns the CMU dictionary, and its errors."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import make_pairs
from benchmarks.shared.kept_checkpoints import digest
from benchmarks.shared.kept_checkpoints import kept_checkpoints
from benchmarks.shared.learning_curve import LearningCurve
from keras_moe.atomic_file import atomic_file
from keras_moe.metrics import sequence_error_rate
from keras_moe.metrics import symbol_error_rate
from keras_moe.models import SwitchTransformer
from keras_moe.training import BudgetedSchedule
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import Trainer
from pipelines.g2p.modules import text
from pipelines.g2p.modules import training
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import training_batches
from pipelines.g2p.modules.presets import from_preset

_STEPS_PER_TURN = 250
_DECODED_AT_ONCE = 1024


class Variant:
    """One model and its learning curve; trained once, then kept.

    Args:
        name: what it is called.
        overrides: in what its `SwitchTransformerConfig` differs.
        config: how long and how to train.
        dropout_rate: dropout, inside experts and elsewhere.
        state: folder of what is kept.
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
        self._exits = exits
        self._settings = {
            "model": self.model.get_config(),
            "training": dataclasses.asdict(config),
            "steps_per_turn": _STEPS_PER_TURN,
            "exits": exits,
        }
        self._state = state
        kept = state / f"{name}-{digest(self._settings)}"
        self._weights = kept.with_suffix(".weights.h5")
        self._points = kept.with_suffix(".json")
        self.curve: list[dict[str, float]] = []
        if self._points.exists():
            self.curve = json.loads(self._points.read_text())
            self.model.load_weights(self._weights)

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.curve[-1]["step"]) if self.curve else 0

    def train(
        self,
        splits: dict[str, Entries],
        num_validation_words: int | None = None,
        on_point: Callable[[], None] = lambda: None,
    ) -> None:
        """Trains, or goes on where it was killed, unless it is trained.

        Args:
            splits: of the dictionary.
            num_validation_words: how many are scored after each turn; `None`
                for all.
            on_point: called after each turn.
        """
        if self.curve:
            return
        validation = splits["validation"][:num_validation_words]
        trained = self.model
        if self._exits is not None:
            trained = EarlyExitTrainer(self.model, **self._exits)
        training.compile_model(trained, self.config)
        curve = LearningCurve(lambda: error_rates(self.model, validation))

        def tell(epoch: int, logs: dict | None) -> None:
            self.curve = curve.points
            point = self.curve[-1]
            Console().print(
                f"{self.name}, step {point['step']:,}: phoneme error "
                f"{point['phoneme_error_rate']:.2%}, word error "
                f"{point['word_error_rate']:.2%} (validation), "
                f"{point['seconds']:.0f} s"
            )
            on_point()

        with kept_checkpoints(
            self._state,
            self.name,
            self._settings,
            training.UPDATES_BETWEEN_CHECKPOINTS,
        ) as checkpoints:
            Trainer(trained, checkpoints).fit(
                self._turns(splits["train"]),
                # The schedule ends the training.
                epochs=self.config.steps,
                steps_per_epoch=_STEPS_PER_TURN,
                callbacks=[
                    BudgetedSchedule(self.config),
                    curve,
                    keras.callbacks.LambdaCallback(on_epoch_end=tell),
                ],
                verbose=0,
            )
            self.curve = curve.points
            self._keep()

    def _turns(self, entries: Entries) -> Callable[[int], tf.data.Dataset]:
        """Returns a function from a turn to an endless stream of batches."""
        pairs = functools.partial(array_pairs, *make_pairs(entries))

        def of_turn(turn: int) -> tf.data.Dataset:
            # Each turn has its own order of examples.
            seed = self.config.seed + turn * _STEPS_PER_TURN
            return tf.data.Dataset.counter().flat_map(
                training_batches(
                    pairs, self.model.config, self.config.batch_size, seed
                )
            )

        return of_turn

    def _keep(self) -> None:
        """Writes weights, then the curve, by which they are looked for."""
        partial = self._weights.with_suffix(".partial.weights.h5")
        self.model.save_weights(partial)
        os.replace(partial, self._weights)
        with atomic_file(self._points) as written:
            written.write_text(json.dumps(self.curve, indent=1) + "\n")


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
