"""Certifies a cascade of two models, as a component."""

import dataclasses
import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec

from keras_moe.calibration import check_disjoint
from keras_moe.calibration._corrections import CORRECTIONS
from keras_moe.calibration._deferral_rule import KINDS
from keras_moe.calibration._deferral_rule import TARGETS
from keras_moe.components import _artifacts as artifacts
from keras_moe.components.training._calibrator import EXAMPLES
from keras_moe.components.training._calibrator import OUTPUTS
from keras_moe.components.training._calibrator import PARAMETERS
from keras_moe.components.training._calibrator import Calibration
from keras_moe.components.training._calibrator import CalibratorExecutor
from keras_moe.components.training._calibrator import Certified
from keras_moe.components.training._certify_cascade import CascadeCertifier
from keras_moe.components.training._example_digests import example_digests
from keras_moe.generation import EarlyExitPolicy
from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# What splits are for, in the order in which they are compared.
_TRAINED_ON, _FIT, _CALIBRATION = "trained_on", "fit", "calibration"
_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)


class CascadeCalibratorExecutor(CalibratorExecutor):
    """Fits a rule to two stages, and certifies when the small one defers."""

    MODELS = ("small", "large")

    def certify(self, calibration: Calibration) -> Certified:
        """Fits on one split, certifies on another, exports by the task of it.

        Raises:
            NotCertifiedError: if no threshold is certified.
            ValueError: if the stages do not go together, or an example is in
                two of the splits.
        """
        small, large = calibration.models
        certifier = CascadeCertifier((small, large), calibration.settings)
        check_disjoint(
            {
                purpose: example_digests(calibration.splits[purpose])
                for purpose in (_TRAINED_ON, _FIT, _CALIBRATION)
                if calibration.splits[purpose]
            }
        )
        rule, thresholds = certifier.fit(calibration.task(_FIT))
        task = calibration.task(_CALIBRATION)
        cascade, certificate = certifier.certify(task, rule, thresholds)
        return Certified(cascade, certificate, task)


class CascadeCalibratorSpec(ComponentSpec):
    """Parameters, inputs and outputs of `CascadeCalibrator`."""

    PARAMETERS = PARAMETERS
    INPUTS = {
        "small": ChannelParameter(type=standard_artifacts.Model),
        "large": ChannelParameter(type=standard_artifacts.Model),
        **EXAMPLES,
    }
    OUTPUTS = OUTPUTS


class CascadeCalibrator(base_component.BaseComponent):
    """Certifies what a small model defers to a large one, and exports both.

    What it outputs is what is evaluated, validated and pushed: one model, a
    `keras_moe.models.Cascade`. A `keras_moe.calibration.DeferralRule` is fitted
    on one split of the examples, and its threshold certified on another. Where
    nothing is certified there is no model, and so nothing to push: the
    component fails, with the reason, before anything is written.

    Inputs:
        small: `Model`, with the Keras model in `assets.extra/model.keras`.
        large: `Model`, likewise: of the same inputs and outputs, or of one
            vocabulary.
        examples: `Examples`, with splits that had no part in training or in
            any choice.
        transform_graph: `TransformGraph`, optional; for the export.

    Outputs:
        model: `Model`, certified, with `assets.extra/certificate.json`, which
            also says in which range the share of deferred rows lies.
        certificate: `Certificate`.

    Args:
        small: the channel of that input.
        large: the channel of that input.
        examples: the channel of that input.
        task_fn: import path of a function from `CalibrationTaskArgs` to
            `CalibrationTask`: how to read the examples, how wrong an answer
            is, and how to export. Called once for each of the two splits.
        tolerance: greatest expected loss, between 0 and 1; or
        budget: greatest expected share of deferred rows.
        kind: of the outputs, see `keras_moe.calibration.DeferralRule`.
        target: what the rule estimates, see there.
        shares: candidates: shares of the rows of `fit_splits` that thresholds
            defer. See `keras_moe.calibration.calibrate_cascade`.
        confidence_level: between 0 and 1.
        correction: see `keras_moe.calibration.calibrate_cascade`.
        max_length: greatest number of tokens of an answer.
        early_exits: of the two stages, see `keras_moe.models.Cascade`.
        batch_sizes: of rows of the large stage, see there.
        fit_splits: of the examples, to fit the rule on.
        splits: of the examples, to calibrate on.
        trained_on: of the examples, what the stages were trained on. An example
            that is there, too, is refused in the other splits. Empty where the
            stages were trained on other examples.
        transform_graph: the channel of that input.
        seed: of the rule.
        custom_config: what else `task_fn` is to know, as plain values; also a
            fingerprint of its code, see `Distiller`.

    Raises:
        ValueError: if an argument is out of its range, or a split is for two
            things.

    Example:
    ```python
    calibrator = keras_moe.components.CascadeCalibrator(
        small=distiller.outputs["student"],
        large=trainer.outputs["model"],
        examples=example_gen.outputs["examples"],
        task_fn="my_project.cascade.cascade_task",
        budget=0.3,
        max_length=32,
    )
    ```
    """

    SPEC_CLASS = CascadeCalibratorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(CascadeCalibratorExecutor)

    def __init__(
        self,
        small: types.BaseChannel,
        large: types.BaseChannel,
        examples: types.BaseChannel,
        task_fn: str,
        tolerance: float | None = None,
        budget: float | None = None,
        kind: str = "tokens",
        target: str = "gain",
        shares: Sequence[float] = _SHARES,
        confidence_level: float = 0.95,
        correction: str = "fixed_sequence",
        max_length: int = 64,
        early_exits: Sequence[EarlyExitPolicy | None] = (None, None),
        batch_sizes: Sequence[int] = (1, 8, 32),
        fit_splits: Sequence[str] = ("validation",),
        splits: Sequence[str] = ("calibration",),
        trained_on: Sequence[str] = ("train",),
        transform_graph: types.BaseChannel | None = None,
        seed: int = 0,
        custom_config: Mapping[str, Any] | None = None,
    ) -> None:
        if (tolerance is None) == (budget is None):
            raise ValueError(
                "One of `tolerance` and `budget` must be given. Received: "
                f"tolerance={tolerance}, budget={budget}."
            )
        limits = {"tolerance": tolerance, "budget": budget}
        given = {k: v for k, v in limits.items() if v is not None}
        check_fraction(**given, confidence_level=confidence_level)
        check_choice(KINDS, kind=kind)
        check_choice(TARGETS, target=target)
        check_choice(CORRECTIONS, correction=correction)
        check_size(max_length=max_length)
        check_seed(seed)
        _check_shares(shares)
        used = {
            _TRAINED_ON: list(trained_on),
            _FIT: list(fit_splits),
            _CALIBRATION: list(splits),
        }
        _check_splits(used)
        calibration = {
            **limits,
            "kind": kind,
            "target": target,
            "shares": list(shares),
            "confidence_level": confidence_level,
            "correction": correction,
            "max_length": max_length,
            "early_exits": [
                policy and dataclasses.asdict(policy) for policy in early_exits
            ],
            "batch_sizes": list(batch_sizes),
            "seed": seed,
        }
        super().__init__(
            CascadeCalibratorSpec(
                small=small,
                large=large,
                examples=examples,
                transform_graph=transform_graph,
                task_fn=task_fn,
                splits=json.dumps(used),
                calibration=json.dumps(calibration, sort_keys=True),
                custom_config=json.dumps(
                    dict(custom_config or {}), sort_keys=True
                ),
                model=types.Channel(type=standard_artifacts.Model),
                certificate=types.Channel(type=artifacts.Certificate),
            )
        )


def _check_shares(shares: Sequence[float]) -> None:
    for share in shares:
        check_fraction(shares=share)
    if not shares:
        raise ValueError("`shares` must hold a share. Received: none.")


def _check_splits(used: Mapping[str, list[str]]) -> None:
    """Raises `ValueError` where a split is for two things, or missing."""
    for purpose in (_FIT, _CALIBRATION):
        if not used[purpose]:
            name = "splits" if purpose == _CALIBRATION else "fit_splits"
            raise ValueError(f"`{name}` must name a split. Received: none.")
    every = [name for names in used.values() for name in names]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise ValueError(
            "`trained_on`, `fit_splits` and `splits` must be different splits: "
            "a stage is right and sure on what it was trained on, and a rule "
            f"on what it was fitted to. Received twice: {', '.join(twice)}."
        )
