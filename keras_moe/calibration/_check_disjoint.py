"""No row may learn, choose and certify at once."""

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping


def check_disjoint(splits: Mapping[str, Iterable[Hashable]]) -> None:
    """Makes sure that no row is in two splits.

    On rows that it was trained on, a stage is right and sure: a rule of
    deferral that is fitted there learns that, and a certificate that is granted
    there guarantees nothing. The models do not tell what they were trained on;
    whoever knows it can have it compared.

    Args:
        splits: name to rows, each a text, a tuple, or a digest: what tells a
            row from others.

    Raises:
        ValueError: if a split is empty, or a row is in two; naming the splits.

    Example:

    >>> keras_moe.calibration.check_disjoint(
    ...     {"train": ["a", "b"], "fit": ["c"], "calibration": ["d", "e"]}
    ... )
    """
    seen: dict[str, set[Hashable]] = {}
    for name, rows in splits.items():
        found = set(rows)
        if not found:
            raise ValueError(
                f"`splits[{name!r}]` must have rows. Received: none."
            )
        for earlier, others in seen.items():
            shared = len(found & others)
            if shared:
                raise ValueError(
                    f"`splits[{name!r}]` must have no row of "
                    f"`splits[{earlier!r}]`: a model is right and sure on rows "
                    f"that it was trained on. Received: {shared} of "
                    f"{len(found)} rows that are in both."
                )
        seen[name] = found
