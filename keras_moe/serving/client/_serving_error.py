"""The error that a client raises when a model server refuses a request."""


class ServingError(RuntimeError):
    """A model server's refusal, the same over gRPC and REST.

    Attributes:
        code: canonical status name, such as `"INVALID_ARGUMENT"`.
        message: what the server said.

    Example:

    >>> error = keras_moe.serving.ServingError("NOT_FOUND", "no such version")
    >>> error.code, str(error)
    ('NOT_FOUND', 'NOT_FOUND: no such version')
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
