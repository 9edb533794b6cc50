"""Lists of numbers, as options give them: 1,8,32."""


def to_sizes(name: str, text: str | None) -> tuple[int, ...] | None:
    """Returns the integers of an option; `None` where it is not given.

    Args:
        name: of the option.
        text: with commas between numbers.

    Raises:
        ValueError: if one is no integer.
    """
    if text is None:
        return None
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be integers with commas between them, such as "
            f"1,8,32. Received: {text}."
        ) from error


def to_numbers(name: str, text: str) -> tuple[float, ...]:
    """Returns the numbers of an option.

    Args:
        name: of the option.
        text: with commas between numbers.

    Raises:
        ValueError: if one is no number.
    """
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be numbers with commas between them, such as "
            f"1.0,0.9,0.8. Received: {text}."
        ) from error
