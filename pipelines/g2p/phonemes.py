"""The phoneme inventory: ARPAbet as the CMU dictionary writes it."""

VOWELS = (
    "AA",
    "AE",
    "AH",
    "AO",
    "AW",
    "AY",
    "EH",
    "ER",
    "EY",
    "IH",
    "IY",
    "OW",
    "OY",
    "UH",
    "UW",
)
CONSONANTS = (
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
)
STRESS_DIGITS = "012"

# One word's pronunciations are kept together in one string.
VARIANT_SEPARATOR = "|"


def inventory(keep_stress: bool = False) -> tuple[str, ...]:
    """Returns the phonemes in the order that gives them their ids.

    Args:
        keep_stress: `bool`. Whether vowels carry a stress digit, as in
            `"AH0"`. Without it there are 39 phonemes, with it 69.

    Returns:
        The symbols. Their order is part of every trained model: append, never
        reorder.
    """
    if not keep_stress:
        return tuple(sorted(VOWELS + CONSONANTS))
    stressed = tuple(v + digit for v in VOWELS for digit in STRESS_DIGITS)
    return tuple(sorted(stressed + CONSONANTS))


def drop_stress(pronunciation: str) -> str:
    """Removes the stress digits: `"AH0 B AW1 T"` becomes `"AH B AW T"`."""
    return " ".join(p.rstrip(STRESS_DIGITS) for p in pronunciation.split())
