"""Calibration of a decoder's early exits."""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_moe.calibration._calibrate import calibrate
from keras_moe.calibration._certificate import Certificate
from keras_moe.calibration._checks import to_thresholds
from keras_moe.calibration._corrections import CORRECTIONS
from keras_moe.calibration._p_values import PValue
from keras_moe.calibration._p_values import check_p_value
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitingGenerative
from keras_moe.generation.contracts._check_model import check_model
from keras_moe.types import Config
from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction
from keras_moe.validation import check_size
from keras_moe.weights._fingerprint import fingerprint

ExitLoss = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ExitAnswers(NamedTuple):
    """A model's answers, decoded in full or with early exits.

    Attributes:
        token_ids: int32 `(n, max_length)`.
        exit_layer: int32 `(n, max_length)`, 0 for padding; for the full model
            the last layer's number.

    Example:

    >>> answers = keras_moe.calibration.ExitAnswers(
    ...     token_ids=np.array([[5, 1, 0]]), exit_layer=np.array([[2, 4, 0]])
    ... )
    >>> answers.mean_exit_layer()
    3.0
    """

    token_ids: np.ndarray
    exit_layer: np.ndarray

    def mean_exit_layer(self) -> float:
        """Returns the mean over all tokens."""
        emitted = self.exit_layer > 0
        return float(self.exit_layer[emitted].mean()) if emitted.any() else 0.0


def exit_policy(policy: EarlyExitPolicy, max_length: int) -> Config:
    """Returns the settings, beside the model, that bind a certificate of exits.

    Args:
        policy: the policy; its threshold is left out.
        max_length: greatest number of tokens of an answer.

    Example:

    >>> policy = keras_moe.generation.EarlyExitPolicy("softmax", threshold=0.9)
    >>> bound = keras_moe.calibration.exit_policy(policy, max_length=32)
    >>> bound["confidence"], bound["max_length"], "threshold" in bound
    ('softmax', 32, False)
    """
    return {**policy.to_dict(), "max_length": max_length}


def exit_answers(
    model: ExitingGenerative,
    token_ids: np.ndarray,
    policy: EarlyExitPolicy,
    thresholds: Sequence[float],
    max_length: int = 64,
    batch_size: int = 256,
    verbose: int = 1,
) -> Iterator[ExitAnswers]:
    """Decodes once in full, and once with each threshold.

    A row's answer does not depend on the other rows of its batch, so that
    `batch_size` changes nothing but speed.

    Args:
        model: a `keras_moe.generation.ExitingGenerative`.
        token_ids: int `(n, source_length)`, padded.
        policy: the policy but for its threshold.
        thresholds: `[m]`.
        max_length: greatest number of tokens of an answer.
        batch_size: rows decoded at a time.
        verbose: 1 shows a progress bar, 0 does not.

    Yields:
        The full answers, then those with each threshold.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> policy = keras_moe.generation.EarlyExitPolicy("softmax")
    >>> full, early = keras_moe.calibration.exit_answers(
    ...     model,
    ...     [[5, 6, 1]],
    ...     policy,
    ...     thresholds=[1.1],  # lets no token leave
    ...     max_length=4,
    ...     verbose=0,
    ... )
    >>> bool((full.token_ids == early.token_ids).all())
    True
    """
    check_model(ExitingGenerative, model)
    check_size(max_length=max_length, batch_size=batch_size)
    if not isinstance(policy, EarlyExitPolicy):
        raise ValueError(
            "`policy` must be a `keras_moe.generation.EarlyExitPolicy`. "
            f"Received: policy={policy!r}."
        )
    policy.segments(model.config.num_decoder_layers)
    if isinstance(token_ids, Mapping):
        raise ValueError(
            "`token_ids` must be an array, the sources' ids alone, as "
            "`generate` takes them. Received: a dictionary of "
            f"{sorted(token_ids)}."
        )
    token_ids = np.asarray(token_ids, dtype="int32")
    if token_ids.ndim != 2 or not len(token_ids):
        raise ValueError(
            "`token_ids` must have the shape (n, source_length), with at least "
            f"one row. Received: token_ids.shape={token_ids.shape}."
        )
    rounds = 1 + len(thresholds)
    bar = keras.utils.Progbar(
        rounds, unit_name="threshold", verbose=verbose, interval=0.5
    )
    for number, threshold in enumerate((None, *thresholds)):
        early_exit = None
        if threshold is not None:
            early_exit = dataclasses.replace(policy, threshold=float(threshold))
        parts = [
            model.generate(rows, max_length, early_exit=early_exit)
            for rows in np.split(
                token_ids, range(batch_size, len(token_ids), batch_size)
            )
        ]
        ids = np.concatenate([np.array(part["token_ids"]) for part in parts])
        if threshold is None:
            last = model.config.num_decoder_layers
            layers = np.where(ids != model.config.pad_id, last, 0)
        else:
            layers = np.concatenate(
                [np.array(part["exit_layer"]) for part in parts]
            )
        bar.update(number + 1)
        yield ExitAnswers(ids, layers.astype("int32"))


def calibrate_exits(
    model: ExitingGenerative,
    token_ids: np.ndarray,
    policy: EarlyExitPolicy,
    thresholds: Sequence[float],
    loss: ExitLoss,
    tolerance: float,
    confidence_level: float = 0.95,
    max_length: int = 64,
    batch_size: int = 256,
    p_value: PValue = "hoeffding_bentkus",
    correction: str = "fixed_sequence",
    verbose: int = 1,
) -> Certificate:
    """Certifies how early a model's tokens may leave.

    The guarantee is for the threshold chosen; of others, higher ones included,
    only those that were tested and passed have one.

    Decodes as it will be served: the certificate holds for this model, this
    policy and this `max_length`, and `keras_moe.serving.export` refuses it for
    another.

    Source: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 4.

    Args:
        model: a `keras.Model` that is `keras_moe.generation.ExitingGenerative`,
            trained, and quantised if it is served so.
        token_ids: int `(n, source_length)`, padded: examples that had no part
            in training or in any choice.
        policy: the policy but for its threshold.
        thresholds: candidates, from the safest (the highest) to the boldest.
        loss: of the early and the full answers, token ids `(n, max_length)`
            each, to losses in [0, 1], `(n,)`: made of
            `keras_moe.calibration.textual_consistency` or
            `keras_moe.calibration.risk_consistency`.
        tolerance: greatest expected loss, between 0 and 1.
        confidence_level: between 0 and 1.
        max_length: greatest number of tokens of an answer.
        batch_size: rows decoded at a time.
        p_value: see `keras_moe.calibration.calibrate`.
        correction: see `keras_moe.calibration.calibrate`.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        A `Certificate`.

    Raises:
        NotCertifiedError: if no threshold passes: serve the full model.
        ValueError: if an argument is out of its range.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.random.default_rng(0).integers(2, 32, (60, 6))
    >>> certificate = keras_moe.calibration.calibrate_exits(
    ...     model,
    ...     ids,
    ...     keras_moe.generation.EarlyExitPolicy("softmax"),
    ...     thresholds=[1.1, 1.05],  # neither lets a token leave
    ...     loss=lambda early, full: (early != full).any(axis=1),
    ...     tolerance=0.1,
    ...     max_length=6,
    ...     p_value="binary",
    ...     verbose=0,
    ... )
    >>> certificate.threshold, certificate.risks
    (1.05, (0.0, 0.0))
    """
    # Decoding takes minutes: every argument is checked before it starts.
    check_fraction(tolerance=tolerance, confidence_level=confidence_level)
    check_choice(CORRECTIONS, correction=correction)
    check_p_value(p_value, np.zeros((1, 1)))
    tested = to_thresholds(thresholds, correction)
    if correction == "fixed_sequence" and len(tested) > 1:
        if tested[0] < tested[-1]:
            raise ValueError(
                "`thresholds` must begin with the safest, the highest. "
                f"Received: thresholds={tuple(thresholds)}."
            )
    if not callable(loss):
        raise ValueError(f"`loss` must be a function. Received: loss={loss!r}.")
    answers = exit_answers(
        model, token_ids, policy, thresholds, max_length, batch_size, verbose
    )
    full = next(answers).token_ids
    losses = [_losses(loss, early.token_ids, full) for early in answers]
    return calibrate(
        np.stack(losses, axis=1),
        thresholds,
        tolerance,
        confidence_level,
        p_value,
        correction,
        policy=exit_policy(policy, max_length),
        fingerprint=fingerprint(model),
    )


def _losses(loss: ExitLoss, early: np.ndarray, full: np.ndarray) -> np.ndarray:
    losses = np.asarray(loss(early, full))
    if losses.shape != (len(full),):
        raise ValueError(
            "`loss` must return one number for each example, of the shape "
            f"({len(full)},). Received: {losses.shape}."
        )
    return losses
