"""What became of every weight in a transfer."""

import dataclasses

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """Where each weight of a target came from, and what was not used.

    Each weight of the target is in exactly one of `copied`, `merged` and
    `fresh`.

    Attributes:
        copied: names of weights that equal one of the source's, up to the
            order of its values and, if it was asked for, rounding.
        merged: names of weights that were made otherwise: of several, as an
            average of experts is, or by replication.
        fresh: names of weights that are as they were.
        unused: names of the source that nothing was taken from.

    Example:

    >>> print(keras_moe.weights.TransferReport(copied=("a/kernel", "a/bias")))
    copied: 2 weights
    merged: none
    fresh: none
    unused: none
    """

    copied: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = len(self.copied)
        said = f"{count} weight{'s' if count > 1 else ''}" if count else "none"
        lines = [f"copied: {said}"]
        for kind in ("merged", "fresh", "unused"):
            names = getattr(self, kind)
            said = f"{len(names)}: {list_names(names)}" if names else "none"
            lines.append(f"{kind}: {said}")
        return "\n".join(lines)


def list_names(names: tuple[str, ...] | list[str]) -> str:
    """Returns the first few names, and how many more there are.

    Args:
        names: to be told to a person.
    """
    if not names:
        return "none"
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
