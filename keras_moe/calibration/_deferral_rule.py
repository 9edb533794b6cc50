"""When a stage of a cascade defers to the next."""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.atomic_file import atomic_file
from keras_moe.calibration._certificate import Certificate
from keras_moe.calibration._deferral_checks import check_outputs
from keras_moe.calibration._deferral_checks import check_parts
from keras_moe.calibration._deferral_checks import check_threshold
from keras_moe.calibration._deferral_features import check_probabilities
from keras_moe.calibration._deferral_features import class_features
from keras_moe.calibration._deferral_features import ranking_features
from keras_moe.calibration._deferral_features import token_features
from keras_moe.calibration._deferral_losses import Loss
from keras_moe.calibration._deferral_losses import deferral_losses
from keras_moe.calibration._deferral_network import Network
from keras_moe.calibration._deferral_report import DeferralReport
from keras_moe.calibration._fit_estimate import fit_estimate
from keras_moe.calibration._plain_json import refuse_constant
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_seed
from keras_moe.weights import fingerprint

TARGETS = ("gain", "probability_gain", "confidence")
KINDS = ("probabilities", "logits", "ranking", "tokens")
CONFIDENCES = ("sum", "mean")
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, eq=False)
class DeferralRule:
    """Says which rows a stage of a cascade defers to the next.

    A row is deferred where its score is above the threshold. The score is an
    estimate of what the next stage would gain, by a small network that sees
    the stage's outputs alone; or the stage's lack of confidence. A row whose
    outputs are not finite is deferred.

    Made by `fit`, after the fact: neither stage is touched. The threshold is
    set with `with_threshold`, best by a certificate of
    `keras_moe.calibration.calibrate_cascade`.

    Sources: [Jitkrittum et al., 2023](https://arxiv.org/abs/2307.02764), for
    when confidence does not suffice; following its post-hoc targets, whose
    names could not be checked. [Gupta et al.,
    2024](https://arxiv.org/abs/2404.10136), for quantiles of tokens' log
    probabilities.

    Attributes:
        kind: of the stage's outputs: `"probabilities"` or `"logits"` of
            classes, `(n, classes)`; `"ranking"`, logits `(n, candidates)`,
            whose columns have no identity; `"tokens"`, what `generate` returns.
        target: `"gain"`, of losses; `"probability_gain"`, of the right class's
            probability; or `"confidence"`, with no network.
        network: see `target`.
        threshold: greatest score that is not deferred; `None` until it is set.
        stages: fingerprints of the two stages (`keras_moe.weights`), or `None`.
        report: how the rule was chosen; `None` for one that was not fitted.
        pad_id: of answers of tokens.
        confidence: of tokens, `"sum"` or `"mean"` of their log probabilities.

    Example:

    >>> rule = keras_moe.calibration.DeferralRule(target="confidence")
    >>> rule.with_threshold(0.4).defers(np.array([[0.5, 0.5], [0.9, 0.1]]))
    <tf.Tensor: shape=(2,), dtype=bool, numpy=array([ True, False])>
    """

    kind: str = "probabilities"
    target: str = "confidence"
    # Thousands of numbers, which would drown what a message says.
    network: Network | None = dataclasses.field(default=None, repr=False)
    threshold: float | None = None
    stages: tuple[str, str] | None = None
    report: DeferralReport | None = dataclasses.field(default=None, repr=False)
    pad_id: int = 0
    confidence: str = "sum"

    def __post_init__(self):
        check_choice(KINDS, kind=self.kind)
        check_choice(TARGETS, target=self.target)
        check_choice(CONFIDENCES, confidence=self.confidence)
        check_parts(self.target, self.network, self.stages, self.pad_id)
        if self.threshold is not None:
            check_threshold(self.threshold)
            object.__setattr__(self, "threshold", float(self.threshold))

    @classmethod
    def fit(
        cls,
        small_outputs: Any,
        large_outputs: Any,
        labels: Any,
        target: str = "gain",
        kind: str = "probabilities",
        loss: Loss | None = None,
        models: tuple[keras.Model, keras.Model] | None = None,
        pad_id: int = 0,
        seed: int = 0,
    ) -> "DeferralRule":
        """Fits a rule to the outputs of two stages on the same rows.

        The rows must have had no part in the training of either stage: on
        what it was trained on, a stage is right and sure, and a rule would
        learn that. Nor may they be those that will certify the threshold.

        A rule that is not shown to do better than confidence is not returned:
        then the answer's `target` is `"confidence"`. `report` says so.

        Args:
            small_outputs: of the stage that may defer; see `kind`.
            large_outputs: of the stage it defers to.
            labels: int `(n,)`, the right class or candidate. For tokens, what
                `loss` takes.
            target: what the network learns.
            kind: of the outputs.
            loss: of outputs and labels, to losses in [0, 1], `(n,)`. By
                default 1 where the greatest output is not the label's. Must
                be given for tokens.
            models: the two stages, whose fingerprints are noted.
            pad_id: of answers of tokens.
            seed: of all that is random; the same gives the same rule.

        Returns:
            A rule without a threshold.

        Raises:
            ValueError: if an argument is out of its range, shapes differ, the
                labels have one value alone, or neither stage is ever better.
        """
        check_choice(TARGETS, target=target)
        check_choice(KINDS, kind=kind)
        check_seed(seed)
        if target == "probability_gain" and kind == "tokens":
            raise ValueError(
                "`target` must be 'gain' or 'confidence' for tokens, whose "
                "labels have no probability. Received: target="
                f"{target!r}."
            )
        losses = deferral_losses(
            small_outputs, large_outputs, labels, kind, loss
        )
        rule = cls(
            kind,
            stages=models and (fingerprint(models[0]), fingerprint(models[1])),
            pad_id=pad_id,
        )
        if kind == "probabilities":
            check_probabilities("small_outputs", small_outputs)
            check_probabilities("large_outputs", large_outputs)
        fitted = fit_estimate(
            {name: rule._features(small_outputs, name) for name in rule._ways},
            losses,
            target,
            seed,
        )
        return dataclasses.replace(rule, **fitted._asdict())

    def scores(self, outputs: Any) -> Tensor:
        """Returns each row's score: the greater, the sooner it is deferred.

        Args:
            outputs: of the stage.

        Returns:
            float32 `(n,)`; infinity for a row that is not finite.
        """
        features, confidence = self._look(outputs, self.confidence)
        scores = -confidence if self.kind == "tokens" else 1.0 - confidence
        if self.network is not None:
            # A row that is not finite must not be hidden by the activation.
            scores = self.network(features) + 0.0 * scores
        finite = ops.isfinite(scores)
        return ops.where(finite, scores, float("inf"))

    def defers(self, outputs: Any) -> Tensor:
        """Returns which rows are deferred, bool `(n,)`.

        Args:
            outputs: of the stage.

        Raises:
            ValueError: if the rule has no threshold.
        """
        if self.threshold is None:
            raise ValueError(
                "`threshold` must be set, with `with_threshold`, before a rule "
                "can defer. Received: threshold=None."
            )
        return self.scores(outputs) > self.threshold

    def with_threshold(self, threshold: float | Certificate) -> "DeferralRule":
        """Returns the rule with a threshold.

        Args:
            threshold: the greatest score that is not deferred; or a
                certificate that `calibrate_cascade` granted for this rule.

        Raises:
            ValueError: if it is not finite, or of another rule.
        """
        if isinstance(threshold, Certificate):
            policy = threshold.policy or {}
            named = policy.get("rule"), policy.get("stages")
            own = self.digest, self.stages and list(self.stages)
            if named != own:
                raise ValueError(
                    "The certificate is not one for this rule. Received: one "
                    f"for rule and stages {named!r}; these are {own!r}."
                )
            threshold = threshold.threshold
        check_threshold(threshold)
        return dataclasses.replace(self, threshold=float(threshold))

    def check_stages(self, *models: keras.Model) -> None:
        """Makes sure that the rule was fitted on the outputs of these stages.

        Args:
            models: the two stages. A rule that noted none fits all.

        Raises:
            ValueError: if one is another.
        """
        for name, noted, model in zip(
            ("first", "second"), self.stages or (), models, strict=False
        ):
            found = fingerprint(model)
            if found != noted:
                raise ValueError(
                    f"The rule was fitted on another {name} stage. Received: "
                    f"a model with the fingerprint {found}; the rule's is "
                    f"{noted}."
                )

    @property
    def digest(self) -> str:
        """SHA-256 of all that makes the scores, without the threshold."""
        config = self.get_config()
        for name in ("threshold", "report", "stages"):
            del config[name]
        text = json.dumps(config, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get_config(self) -> Config:
        """Returns plain values from which `from_config` makes the rule."""
        config: Config = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        if self.network is not None:
            config["network"] = self.network.to_lists()
        if self.report is not None:
            config["report"] = dataclasses.asdict(self.report)
        return {"format_version": FORMAT_VERSION, **config}

    @classmethod
    def from_config(cls, config: Config) -> "DeferralRule":
        """Makes a rule of what `get_config` returned.

        Raises:
            ValueError: if it is not the config of a rule.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(config) != {*names, "format_version"}:
            raise ValueError(
                "The fields must be those of a deferral rule. Received: "
                f"{sorted(config)}."
            )
        if config["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"`format_version` must be {FORMAT_VERSION}. Received: "
                f"format_version={config['format_version']!r}."
            )
        made = {name: config[name] for name in names}
        if made["network"] is not None:
            made["network"] = Network.read(made["network"])
        if made["report"] is not None:
            made["report"] = DeferralReport(**made["report"])
        if isinstance(made["stages"], list):
            made["stages"] = tuple(made["stages"])
        return cls(**made)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON file, at once or not at all.

        Args:
            path: of the file; what is there is replaced.
        """
        text = json.dumps(self.get_config(), indent=1, allow_nan=False)
        with atomic_file(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "DeferralRule":
        """Reads a file that `save` wrote.

        Raises:
            ValueError: if it is not a rule.
        """
        text = pathlib.Path(path).read_text(encoding="utf-8")
        try:
            config = json.loads(text, parse_constant=refuse_constant)
            return cls.from_config(config)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} is not a rule. {error}") from error

    @property
    def _ways(self) -> tuple[str, ...]:
        """The confidences to choose from."""
        return CONFIDENCES if self.kind == "tokens" else CONFIDENCES[:1]

    def _look(self, outputs: Any, way: str) -> tuple[Tensor, Tensor]:
        """Returns features `(n, f)` and confidence `(n,)`."""
        if self.kind == "tokens":
            return token_features(outputs, self.pad_id, way)
        outputs = ops.convert_to_tensor(outputs)
        check_outputs(outputs)
        if self.kind == "ranking":
            return ranking_features(outputs)
        return class_features(outputs, self.kind == "logits")

    def _features(
        self, outputs: Any, way: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns features and uncertainty, as arrays."""
        if self.kind == "tokens":
            outputs = {k: ops.convert_to_tensor(v) for k, v in outputs.items()}
        features, confidence = self._look(outputs, way)
        return (
            ops.convert_to_numpy(features),
            -ops.convert_to_numpy(confidence),
        )
