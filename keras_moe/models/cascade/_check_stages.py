"""What a cascade refuses."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_moe.calibration import DeferralRule
from keras_moe.generation import Decodable
from keras_moe.generation import EarlyExitPolicy

_IDS = ("vocabulary_size", "pad_id", "start_id", "end_id")


def check_stages(
    stages: Sequence[Any],
    rules: Sequence[Any],
    policies: Sequence[Any],
    batch_sizes: Sequence[int],
    loading: bool,
) -> None:
    """Raises `ValueError` unless stages and rules go together.

    Args:
        stages: models.
        rules: between them.
        policies: for early exits, one for each stage.
        batch_sizes: numbers of rows.
        loading: whether the stages' weights are still to come, so that rules
            cannot be compared with them.
    """
    if len(stages) < 2 or not all(isinstance(s, keras.Model) for s in stages):
        raise ValueError(
            "`stages` must be two Keras models at least. Received: stages="
            f"{stages!r}."
        )
    if len(rules) != len(stages) - 1:
        raise ValueError(
            f"`rules` must be one for each stage but the last, "
            f"{len(stages) - 1}. Received: {len(rules)}."
        )
    for number, rule in enumerate(rules):
        if not isinstance(rule, DeferralRule) or rule.threshold is None:
            raise ValueError(
                "`rules` must be `keras_moe.calibration.DeferralRule`s with a "
                f"threshold. Received: rules[{number}]={rule!r}. Use "
                "`rule.with_threshold(certificate)`."
            )
        if not loading:
            rule.check_stages(*stages[number : number + 2])
    if len(policies) != len(stages) or not all(
        isinstance(policy, EarlyExitPolicy | None) for policy in policies
    ):
        raise ValueError(
            "`early_exits` must be an `EarlyExitPolicy` or None for each "
            f"stage. Received: early_exits={policies!r}."
        )
    whole = all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0
        for size in batch_sizes
    )
    if not whole or [*batch_sizes] != sorted({*batch_sizes}):
        raise ValueError(
            "`batch_sizes` must be positive integers that increase. Received: "
            f"batch_sizes={batch_sizes!r}."
        )
    tokens = [rule.kind == "tokens" for rule in rules]
    if any(tokens):
        _check_vocabularies(stages, rules, all(tokens))
    else:
        _check_signatures(stages)


def _check_vocabularies(
    stages: Sequence[Any], rules: Sequence[DeferralRule], all_tokens: bool
) -> None:
    decodable = all(isinstance(stage, Decodable) for stage in stages)
    if not all_tokens or not decodable:
        raise ValueError(
            "Rules for tokens need stages that are all "
            "`keras_moe.generation.Decodable`. Received: "
            f"{[type(stage).__name__ for stage in stages]}, and rules for "
            f"{[rule.kind for rule in rules]}."
        )
    ids = [
        {name: getattr(stage.config, name, None) for name in _IDS}
        for stage in stages
    ]
    for number, each in enumerate(ids):
        if each != ids[0]:
            raise ValueError(
                "Stages must have one vocabulary. Received: "
                f"stages[0] with {ids[0]}, stages[{number}] with {each}."
            )
    pad_id = ids[0]["pad_id"]
    for number, rule in enumerate(rules):
        if rule.pad_id != pad_id:
            raise ValueError(
                f"`rules[{number}].pad_id` must be the stages', {pad_id}. "
                f"Received: pad_id={rule.pad_id}."
            )


def signatures_known(stages: Sequence[Any]) -> bool:
    """Returns whether all stages tell what they answer before they are asked.

    A subclassed model does not.
    """
    return all(_told(stage, "output") is not None for stage in stages)


def _check_signatures(stages: Sequence[Any]) -> None:
    """Compares what stages tell of themselves before they are called."""
    for side in ("input", "output"):
        told = {
            number: _told(stage, side) for number, stage in enumerate(stages)
        }
        known = [number for number in told if told[number] is not None]
        for number in known[1:]:
            first = known[0]
            if not _go_together(side, told[first], told[number]):
                raise ValueError(
                    f"Stages must have {side}s of one shape"
                    f"{' and dtype' if side == 'output' else ''}. Received: "
                    f"stages[{first}] with {_words(told[first])}, "
                    f"stages[{number}] with {_words(told[number])}."
                )


def _told(stage: Any, side: str) -> Any:
    """Returns the symbolic tensors of a model's inputs or outputs, or none."""
    try:
        if isinstance(stage, keras.Sequential):
            # One of each; `input` and `output` are known to Functional alone.
            (tensor,) = getattr(stage, f"{side}s")
            return tensor
        return getattr(stage, side)
    except (AttributeError, TypeError, ValueError):
        return None


def _go_together(side: str, one: Any, other: Any) -> bool:
    try:
        keras.tree.assert_same_structure(one, other)
    except (TypeError, ValueError):
        return False
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    if side == "output":
        return all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
    # Stages cast inputs, and may leave sizes open that others fix.
    return all(_sizes_agree(a.shape, b.shape) for a, b in pairs)


def _sizes_agree(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(
        m == n or None in (m, n) for m, n in zip(one, other, strict=True)
    )


def _words(told: Any) -> Any:
    return keras.tree.map_structure(lambda t: f"{t.dtype} {t.shape}", told)
