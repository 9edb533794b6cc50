"""Says in one sentence that a room needs TFX, and where TFX can be had."""


def tfx_needed(room: str) -> ModuleNotFoundError:
    """Words the refusal of a room where TFX is not installed.

    Args:
        room: import path of the room.

    Returns:
        The error, for the room to raise.

    Example:

    >>> from keras_moe.tfx_needed import tfx_needed
    >>> print(tfx_needed("keras_moe.components"))
    `keras_moe.components` needs TFX. Install it with `pip install ...
    """
    return ModuleNotFoundError(
        f"`{room}` needs TFX. Install it with `pip install keras-moe[tfx]` on "
        "Python 3.11 to 3.13; on Linux its wheels are for x86-64 and glibc "
        "2.39 or newer.",
        name="tfx",
    )
