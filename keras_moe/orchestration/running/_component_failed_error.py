"""The error of a component that failed."""

from keras_moe.components import GateClosedError


class ComponentFailedError(RuntimeError):
    """A component failed. The message is that of the first cause.

    Beam and TFX wrap the error of a component in errors of their own, whose
    messages name neither the component nor the cause.

    Example:
    ```python
    try:
        runner.run(pipeline)
    except keras_moe.orchestration.ComponentFailedError as error:
        print(error.name, error.gate_closed)
    ```

    Args:
        name: The component.
        error: What it raised.

    Attributes:
        name: The component.
        gate_closed: Whether the component is a gate that let nothing pass.
    """

    def __init__(self, name: str, error: BaseException) -> None:
        while error.__cause__ is not None and not isinstance(
            error, GateClosedError
        ):
            error = error.__cause__
        self.name = name
        self.gate_closed = isinstance(error, GateClosedError)
        if self.gate_closed:
            super().__init__(str(error))
        else:
            cause = f"{type(error).__name__}: {error}".rstrip(": ")
            super().__init__(f"{name} failed: {cause}")
