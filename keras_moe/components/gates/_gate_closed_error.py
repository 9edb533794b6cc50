"""The error of a component that lets nothing pass."""


class GateClosedError(RuntimeError):
    """Nothing may be pushed. The message is the reason, one sentence.

    A gate raises this error, since every orchestrator stops at an exception,
    while some never look at what an executor returns.
    """

    def __init__(self, reason: str) -> None:
        # The reason goes into metadata and logs, which show a line each.
        super().__init__(" ".join(reason.split()))
