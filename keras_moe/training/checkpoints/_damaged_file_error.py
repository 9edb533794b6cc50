"""The error of a file whose bytes have changed."""


class DamagedFileError(ValueError):
    """A checkpoint's file is cut off, changed or of another kind.

    Example:

    >>> import pathlib
    >>> path = pathlib.Path(directory + ".h5")
    >>> _ = path.write_text("no checkpoint")
    >>> model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    >>> try:
    ...     keras_moe.training.load_into(path, model)
    ... except keras_moe.training.DamagedFileError:
    ...     print("take an older one")
    take an older one
    """
