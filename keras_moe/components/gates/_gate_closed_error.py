"""What a component raises that lets nothing pass."""


class GateClosedError(RuntimeError):
    """Nothing may be pushed. The message is the reason, one sentence.

    Raised, and not recorded alone, since every orchestrator stops at an
    exception, while some never look at what an executor returns.
    """

    def __init__(self, reason: str) -> None:
        # One line: it goes into metadata and logs.
        super().__init__(" ".join(reason.split()))
