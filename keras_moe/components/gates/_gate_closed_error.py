"""The error of a component that lets nothing pass."""


class GateClosedError(RuntimeError):
    """Nothing may be pushed. The message is the reason, one sentence.

    A gate raises this error, since every orchestrator stops at an exception,
    while some never look at what an executor returns.

    Example:

    >>> raise keras_moe.components.GateClosedError("no example has a label")
    Traceback (most recent call last):
    keras_moe...GateClosedError: no example has a label
    """

    def __init__(self, reason: str) -> None:
        # The reason goes into metadata and logs, which show a line each.
        super().__init__(" ".join(reason.split()))
