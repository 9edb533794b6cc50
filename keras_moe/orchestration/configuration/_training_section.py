"""A part of a configuration about something that is trained."""

from typing import Any

import pydantic

from keras_moe.orchestration.configuration._section import Section


class TrainingSection(Section):
    """A stage that trains. Its field `training` may be given in part.

    What is not given is that of the stage's own default, not of the class of
    the training.

    Example:
    >>> class Student(keras_moe.orchestration.TrainingSection):
    ...     training: keras_moe.training.TrainingBudget = (
    ...         keras_moe.training.TrainingBudget(steps=900, min_steps=300)
    ...     )
    >>> Student(training={"max_minutes": 1.0}).training.steps
    900
    >>> Student(training={"steps": 20}).training.min_steps
    20
    """

    @pydantic.field_validator("training", mode="before", check_fields=False)
    @classmethod
    def _complete(cls, training: Any) -> Any:
        if not isinstance(training, dict):
            return training
        whole = vars(cls.model_fields["training"].default) | training
        # Who asks for fewer steps than the smallest number by default, and
        # names none, wants just these.
        if "min_steps" not in training and isinstance(whole["steps"], int):
            whole["min_steps"] = min(whole["min_steps"], whole["steps"])
        return whole
