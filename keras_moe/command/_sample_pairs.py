"""Pairs to begin with: numbers, spelled out."""

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
# Coprime to the number of numbers: every one below is met once.
_STEP, _NUMBERS = 4_001, 10_000


def sample_pairs(count: int = 2000) -> dict[str, str]:
    """Returns numbers below ten thousand, and their words.

    Args:
        count: how many, at most ten thousand.
    """
    numbers = ((_STEP * place) % _NUMBERS for place in range(count))
    return {str(number): spell(number) for number in numbers}


def spell(number: int) -> str:
    """Returns the words of a number from 0 to 999,999."""
    if number < len(_SMALL):
        return _SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return _joined(_TENS[tens - 2], rest)
    unit, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, unit)
    return _joined(f"{spell(many)} {name}", rest)


def _joined(words: str, rest: int) -> str:
    return f"{words} {spell(rest)}" if rest else words
