"""A part of a configuration, checked when it is made."""

import pydantic


class Section(pydantic.BaseModel):
    """A part of a configuration: a strict, frozen pydantic model.

    Unknown names are errors, as are infinity and NaN; defaults are checked too,
    and nothing changes once it is checked.

    Example:
    >>> class Model(keras_moe.orchestration.Section):
    ...     units: int = 8
    >>> Model(units=4)
    Model(units=4)
    >>> Model(unit=4)
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.ValidationError: 1 validation error for Model
    unit
      Extra inputs are not permitted ...
    """

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        # NaN passes every comparison that is worded the wrong way round.
        allow_inf_nan=False,
    )
