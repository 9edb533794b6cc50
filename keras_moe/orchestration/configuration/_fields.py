"""Types of fields that configurations share."""

import math
from typing import Annotated

from pydantic import AfterValidator
from pydantic import Field

from keras_moe.orchestration.examples._splits import SPLITS


def _check_shares(shares: tuple[float, ...]) -> tuple[float, ...]:
    if (
        len(shares) != len(SPLITS)
        or not all(share > 0 for share in shares)
        or not math.isclose(sum(shares), 1.0)
    ):
        raise ValueError(
            f"must be {len(SPLITS)} positive numbers that sum to 1, for "
            f"{', '.join(SPLITS)}"
        )
    return shares


# An integer of at least 1.
Positive = Annotated[int, Field(ge=1)]
# A number between 0 and 1, neither of them.
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
# The share of examples in each of `SPLITS`.
SplitShares = Annotated[tuple[float, ...], AfterValidator(_check_shares)]
