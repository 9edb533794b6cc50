"""A rule and its certified threshold, for two stages and their rows."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_moe.calibration import Certificate
from keras_moe.calibration import DeferralRule
from keras_moe.calibration import calibrate_cascade
from keras_moe.calibration._deferral_losses import deferral_losses
from keras_moe.components.training._calibration_task import CalibrationTask
from keras_moe.generation import EarlyExitPolicy
from keras_moe.models import Cascade

_BATCH = 256
_ANSWER = ("token_ids", "token_log_probability")


class CascadeCertifier:
    """Fits a rule of deferral to two stages, and certifies its threshold.

    Args:
        stages: the small one and the large.
        settings: of `CascadeCalibrator`.

    Raises:
        ValueError: if the stages do not go together.
    """

    def __init__(
        self,
        stages: tuple[keras.Model, keras.Model],
        settings: Mapping[str, Any],
    ):
        self._stages = stages
        self._settings = settings
        self._kind = settings["kind"]
        self._pad_id = 0
        if self._kind == "tokens":
            config = getattr(stages[0], "config", None)
            self._pad_id = getattr(config, "pad_id", 0)
        self._early_exits = [
            policy and EarlyExitPolicy(**policy)
            for policy in settings["early_exits"]
        ]
        # Answers take minutes: stages that differ are refused before.
        self._cascade(
            DeferralRule(self._kind, threshold=0.0, pad_id=self._pad_id)
        )

    def fit(self, task: CalibrationTask) -> tuple[DeferralRule, list[float]]:
        """Returns a rule, and thresholds that defer given shares of its rows.

        Args:
            task: with rows that neither stage was trained on.
        """
        small, large = self._answers(task)
        rule = DeferralRule.fit(
            small,
            large,
            task.labels,
            self._settings["target"],
            self._kind,
            task.loss,
            self._stages,
            self._pad_id,
            self._settings["seed"],
        )
        scores = keras.ops.convert_to_numpy(rule.scores(small))
        shares = 1.0 - np.asarray(self._settings["shares"])
        thresholds = np.quantile(scores, shares, method="higher")
        # Of rows that are not finite the score is infinity.
        finite = thresholds[np.isfinite(thresholds)]
        if not len(finite):
            raise ValueError(
                "`shares` must hold one above the share of rows whose outputs "
                "are not finite, which are all deferred. Received: shares="
                f"{self._settings['shares']}."
            )
        return rule, np.unique(finite).astype("float64").tolist()

    def certify(
        self, task: CalibrationTask, rule: DeferralRule, thresholds: list[float]
    ) -> tuple[Cascade, Certificate]:
        """Returns the cascade with a certified threshold, and its certificate.

        Args:
            task: with rows that had no part in anything before.
            rule: by `fit`.
            thresholds: by `fit`.

        Raises:
            NotCertifiedError: if no threshold passes.
        """
        small, large = self._answers(task)
        losses = deferral_losses(
            small, large, task.labels, self._kind, task.loss
        )
        certificate = calibrate_cascade(
            rule,
            rule.scores(small),
            losses.small,
            losses.large,
            thresholds,
            self._settings["tolerance"],
            self._settings["budget"],
            self._settings["confidence_level"],
            correction=self._settings["correction"],
        )
        return self._cascade(rule.with_threshold(certificate)), certificate

    def _cascade(self, rule: DeferralRule) -> Cascade:
        return Cascade(
            self._stages,
            rule,
            self._early_exits,
            self._settings["batch_sizes"],
        )

    def _answers(self, task: CalibrationTask) -> list[Any]:
        if self._kind != "tokens":
            return [
                stage.predict(task.inputs, batch_size=_BATCH, verbose=0)
                for stage in self._stages
            ]
        return [
            _generated(stage, task.inputs, self._settings["max_length"], policy)
            for stage, policy in zip(
                self._stages, self._early_exits, strict=True
            )
        ]


def _generated(
    stage: Any,
    token_ids: np.ndarray,
    max_length: int,
    early_exit: EarlyExitPolicy | None,
) -> dict[str, np.ndarray]:
    """Decodes as a cascade does; a row does not depend on its batch."""
    parts = [
        stage.generate(
            token_ids[start : start + _BATCH],
            max_length,
            early_exit=early_exit,
        )
        for start in range(0, len(token_ids), _BATCH)
    ]
    return {
        name: np.concatenate([np.asarray(part[name]) for part in parts])
        for name in _ANSWER
    }
