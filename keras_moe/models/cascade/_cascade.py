"""A model of several: the small one answers, or defers to the next."""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_moe.backend import value_now
from keras_moe.calibration import Certificate
from keras_moe.calibration import DeferralRule
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import decode
from keras_moe.generation._generating import Generating
from keras_moe.models.cascade._check_stages import check_stages
from keras_moe.models.cascade._check_stages import signatures_known
from keras_moe.models.cascade._refine import check_alike
from keras_moe.models.cascade._refine import refine
from keras_moe.models.cascade._refine import take_rows
from keras_moe.models.cascade._stages_check import StagesCheck
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor

_ANSWER = ("token_ids", "log_probability", "token_log_probability")
Policies = Sequence[EarlyExitPolicy | None] | None


@register
class Cascade(Generating, keras.Model):
    """Asks a small model first, and larger ones where it would be wrong.

    Each stage answers the rows that the one before deferred, and no other: a
    batch without any does not run it. A row's answer does not depend on the
    other rows of its batch, as long as those of the stages do not.

    Under XLA (`jit_compile=True`, TPUs) the deferred rows are moved to the
    front and padded to the next of `batch_sizes`, for each of which there is
    a program.

    Nothing is trained here: train each stage by itself, fit a
    `keras_moe.calibration.DeferralRule` to their outputs, and have its
    threshold certified by `keras_moe.calibration.calibrate_cascade`.

    Sources: [Jitkrittum et al., 2023](https://arxiv.org/abs/2307.02764), for
    when a cascade should defer.

    Args:
        stages: two Keras models or more, from the cheapest on. They take the
            same inputs, and their outputs are one tensor of one shape; or
            they generate (`keras_moe.generation.Decodable`) with one
            vocabulary.
        rules: a rule with a threshold for each stage but the last; or one, of
            two stages.
        early_exits: for stages that generate, when a token may leave each
            one's decoder; `None` for never.
        batch_sizes: numbers of rows of a later stage, increasing, where XLA
            compiles.

    Call arguments:
        inputs: of the stages, `(batch, ...)`.

    Output:
        `outputs`, the answers; and `stage`, int32 `(batch,)`, the number of
        the stage that gave each, from 0.

    Raises:
        ValueError: if the stages differ in what they take or answer, a rule
            has no threshold, or was fitted on other stages: also of a file
            whose stages were changed.

    Example:

    >>> def classifier(width):
    ...     inputs = keras.Input([4])
    ...     x = keras.layers.Dense(width, activation="relu")(inputs)
    ...     return keras.Model(
    ...         inputs, keras.layers.Dense(3, activation="softmax")(x)
    ...     )
    >>> rule = keras_moe.calibration.DeferralRule(threshold=0.5)
    >>> cascade = keras_moe.models.Cascade(
    ...     [classifier(2), classifier(64)], rule
    ... )
    >>> answer = cascade(np.ones([5, 4], "float32"))
    >>> answer["outputs"].shape, answer["stage"].shape
    (TensorShape([5, 3]), TensorShape([5]))
    """

    def __init__(
        self,
        stages: Sequence[keras.Model],
        rules: DeferralRule | Sequence[DeferralRule],
        early_exits: Policies = None,
        batch_sizes: Sequence[int] = (1, 8, 32),
        **kwargs: Any,
    ):
        rules = [rules] if isinstance(rules, DeferralRule) else list(rules)
        stages = list(stages)
        policies = list(early_exits or [None] * len(stages))
        # The weights of a model that is being loaded come after its stages.
        loading = kwargs.pop("loading", False)
        check_stages(stages, rules, policies, batch_sizes, loading)
        # Each stage casts inputs as its own policy says.
        super().__init__(autocast=False, **kwargs)
        # Stages heed masks; Keras would warn that one is destroyed.
        self.supports_masking = True
        self.stages = stages
        self._rules = tuple(rules)
        self._early_exits = tuple(policies)
        self.batch_sizes = tuple(batch_sizes)
        generates = rules[0].kind == "tokens"
        # A cascade that generates is never called, and has no build.
        if generates:
            self.built = all(stage.built for stage in stages)
        self._compared = generates or signatures_known(stages)
        self.stages_check = StagesCheck(self._check_rules)

    @property
    def rules(self) -> tuple[DeferralRule, ...]:
        """The rules, one for each stage but the last."""
        return self._rules

    def check_certificate(self, certificate: Certificate) -> None:
        """Makes sure that a certificate is one for a rule of this cascade.

        Args:
            certificate: by `keras_moe.calibration.calibrate_cascade`.

        Raises:
            ValueError: if it is of another rule, of other stages or of another
                threshold.
        """
        policy = certificate.policy or {}
        number: Any = policy.get("stage")
        known = isinstance(number, int) and 0 <= number < len(self._rules)
        rule = self._rules[number if known else 0]
        if not known or rule.digest != policy.get("rule"):
            raise ValueError(
                "The certificate is not one for a rule of this cascade. "
                f"Received: policy={certificate.policy!r}."
            )
        rule.with_threshold(certificate)
        if rule.threshold != certificate.threshold:
            raise ValueError(
                "The certificate is for another threshold. Received: "
                f"{certificate.threshold}; the rule's is {rule.threshold}."
            )
        self._check_rules()

    def _check_rules(self) -> None:
        """Compares each rule with the stages it was fitted on."""
        for number, rule in enumerate(self._rules):
            rule.check_stages(*self.stages[number : number + 2])

    def build(self, input_shape: Any) -> None:
        for stage in self.stages:
            if not stage.built:
                stage.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Config:
        del training  # a cascade only answers

        def outputs_of(number: int, inputs: Any) -> Tensor:
            return self.stages[number](inputs, training=False)

        outputs, stage = self._ask(inputs, outputs_of)
        return {"outputs": outputs, "stage": stage}

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Returns nothing: answers have a row for each input."""
        return None

    def answer(self, token_ids: Tensor, max_length: int = 64) -> Config:
        """Decodes sources; `keras_moe.generation.decode` calls it.

        Args:
            token_ids: int32 `(batch, source_length)`, padded.
            max_length: greatest number of tokens of an answer.

        Returns:
            `token_ids`, int32 `(batch, max_length)`; `log_probability`,
            float32 `(batch,)`; `token_log_probability`, float32 `(batch,
            max_length)`; and `stage`, int32 `(batch,)`.
        """

        def generated(number: int, token_ids: Tensor) -> dict[str, Tensor]:
            answer = decode(
                self.stages[number],
                token_ids,
                max_length,
                early_exit=self._early_exits[number],
            )
            return {name: answer[name] for name in _ANSWER}

        answer, stage = self._ask(token_ids, generated)
        return {**answer, "stage": stage}

    def _ask(
        self, inputs: Any, outputs_of: Callable[[int, Any], Any]
    ) -> tuple[Any, Tensor]:
        """Returns the answers, and the number of the stage that gave each."""
        answers = outputs_of(0, inputs)
        first = keras.tree.flatten(answers)[0]
        self._compare(answers, first, inputs, outputs_of)
        stage = ops.zeros(ops.shape(first)[:1], dtype="int32")
        waiting = ops.equal(stage, 0)
        for number, rule in enumerate(self._rules, 1):
            waiting = ops.logical_and(waiting, rule.defers(answers))
            answers = refine(
                answers,
                waiting,
                inputs,
                functools.partial(outputs_of, number),
                self.batch_sizes,
            )
            stage = ops.where(waiting, number, stage)
        return answers, stage

    def _compare(
        self,
        answers: Any,
        first: Tensor,
        inputs: Any,
        outputs_of: Callable[[int, Any], Any],
    ) -> None:
        """Asks later stages about one row, once, whoever defers.

        Otherwise one that answers in another form would raise only at the
        first batch with a deferred row. A graph holds all stages in any case.
        """
        if self._compared or value_now(first) is None or not len(first):
            return
        row = take_rows(inputs, ops.zeros([1], dtype="int32"))
        for number in range(1, len(self.stages)):
            check_alike(answers, outputs_of(number, row))
        self._compared = True

    @property
    def config(self) -> Any:
        """The ids and sizes of stages that generate: those of the first."""
        return self.stages[0].config

    @property
    def ignores_padding(self) -> bool:
        return all(
            getattr(stage, "ignores_padding", True) for stage in self.stages
        )

    def train_step(self, *args: Any) -> Any:
        """Refuses: a cascade is not trained as a whole."""
        raise NotImplementedError(
            "A `Cascade` is not trained: train each of its stages by itself, "
            "then fit a `keras_moe.calibration.DeferralRule`."
        )

    def get_config(self) -> Config:
        policies = [
            policy and dataclasses.asdict(policy)
            for policy in self._early_exits
        ]
        return {
            **super().get_config(),
            "stages": [
                keras.saving.serialize_keras_object(stage)
                for stage in self.stages
            ],
            "rules": [rule.get_config() for rule in self._rules],
            "early_exits": policies,
            "batch_sizes": list(self.batch_sizes),
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None):
        config = dict(config)
        config["stages"] = [
            keras.saving.deserialize_keras_object(stage, custom_objects)
            for stage in config["stages"]
        ]
        config["rules"] = [
            DeferralRule.from_config(rule) for rule in config["rules"]
        ]
        config["early_exits"] = [
            policy and EarlyExitPolicy(**policy)
            for policy in config["early_exits"]
        ]
        return cls(**config, loading=True)
