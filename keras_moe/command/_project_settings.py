"""What a project needs to know of its pairs: units, lengths, shares, bounds."""

import math
from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_moe.calibration import betting_p_value
from keras_moe.calibration import hoeffding_bentkus_p_value
from keras_moe.command._constant_answer import constant_answer
from keras_moe.command._run_minutes import run_minutes
from keras_moe.orchestration import DEFAULT_FRACTIONS
from keras_moe.orchestration import SPLITS
from keras_moe.orchestration import split_of

BATCH_SIZE = 64
# With fewer pairs, a larger share of them is held out: a certificate needs some
# sixty, whatever is left to learn from.
_FEW = 1500
_FRACTIONS_OF_FEW = (0.6, 0.1, 0.2, 0.1)
# An index is tuned and certified on so many sources at least.
_QUERIES, _FEWEST = 20, 200
_FRACTIONS_OF_FEWEST = (0.4, 0.1, 0.4, 0.1)
# Texts are read by words if nearly all have no other words than those that can
# be learned, of which there are so many each.
_OFTEN, _COVERED = 5, 0.95
# Long texts are read by words, too, if they keep most: by characters, they take
# more minutes than anybody waits for, and answers ramble until then.
_LONG, _MOSTLY_COVERED = 40, 0.5
# Texts to come may be longer than those that there are.
_MARGIN = 1.25
# Of eight thousand dates in eight languages, fifteen passes teach the rule, and
# of two thousand numbers as many steps as the fewest here; the validation split
# ends what has no rule. Steps of a search take next to no time.
_PASSES, _FEWEST_STEPS = 15, 2400
_PASSES_OF_SEARCH, _FEWEST_STEPS_OF_SEARCH = 60, 1000
_MOST_STEPS = 4000
# A machine that others use makes so many of them, however slow it is.
_LEAST_SHARE = 0.5
_TOLERANCE, _RECALL, _CONFIDENCE = 0.05, 0.9, 0.95
# The targets that a search finds, and the share of sources with theirs in them.
_FOUND, _LEAST_FOUND = 10, 0.05


def settings_of(targets: Mapping[str, str], search: bool) -> dict[str, Any]:
    """Chooses the settings of a project.

    Args:
        targets: of the sources.
        search: whether targets are found, not written.

    Raises:
        ValueError: if there are too few pairs.
    """
    if len(targets) < BATCH_SIZE:
        raise ValueError(
            f"There must be at least {BATCH_SIZE} different pairs, as many as "
            f"a batch has. Received: {len(targets)}."
        )
    fractions = _fractions(len(targets), search)
    splits = {source: split_of(source, fractions) for source in targets}
    counts = Counter(splits.values())
    for split in SPLITS:
        if not counts[split]:
            raise ValueError(
                f"There must be more pairs: of {len(targets)}, none falls into "
                f"the split `{split}`."
            )
    if search and counts["calibration"] < _QUERIES:
        raise ValueError(
            f"There must be more pairs: of {len(targets)}, "
            f"{counts['calibration']} fall into the split `calibration`, and "
            f"an index needs {_QUERIES}."
        )
    passes, fewest = _PASSES, _FEWEST_STEPS
    if search:
        passes, fewest = _PASSES_OF_SEARCH, _FEWEST_STEPS_OF_SEARCH
    steps = passes * counts["train"] // BATCH_SIZE
    steps = min(max(steps, fewest), _MOST_STEPS)
    settings = {
        "fractions": list(fractions),
        "calibration": counts["calibration"],
        # For a request: nothing was learned from it.
        "example": next(s for s, split in splits.items() if split == "test"),
        "batch_size": BATCH_SIZE,
        "steps": steps,
        "min_steps": round(_LEAST_SHARE * steps),
    }
    if search:
        return settings | _search_bounds(counts["calibration"], len(targets))
    smallest = _smallest(
        lambda rate: hoeffding_bentkus_p_value(0.0, counts["calibration"], rate)
    )
    settings |= {
        "smallest_tolerance": smallest,
        "tolerance": max(_TOLERANCE, smallest),
    }
    lengths = {}
    for name, texts in (
        ("source", targets.keys()),
        ("target", targets.values()),
    ):
        unit = _unit(texts)
        units = [t.split() if unit == "word" else list(t) for t in texts]
        settings[f"{name}_unit"] = unit
        settings[f"{name}_length"] = math.ceil(_MARGIN * max(map(len, units)))
        lengths[name] = sum(map(len, units)) / len(units)
    # Those of the targets.
    constant, rate = constant_answer(units)
    separator = " " if unit == "word" else ""
    # Transform learns no word that comes once.
    counted = Counter(each for target in units for each in target)
    vocabulary = sum(count > 1 for count in counted.values())
    return settings | {
        "minutes": run_minutes(
            steps, BATCH_SIZE, lengths["source"], lengths["target"], vocabulary
        ),
        "constant_answer": separator.join(constant),
        "max_error_rate": round(rate, 2),
    }


def _fractions(pairs: int, search: bool) -> tuple[float, ...]:
    if pairs >= _FEW:
        return DEFAULT_FRACTIONS
    if search and pairs < _FEWEST:
        return _FRACTIONS_OF_FEWEST
    return _FRACTIONS_OF_FEW


def _unit(texts: Collection[str]) -> str:
    split = [text.split() for text in texts]
    counts = Counter(word for words in split for word in words)
    if counts.total() == len(split):
        return "character"
    known = {word for word, count in counts.items() if count >= _OFTEN}
    whole = sum(known.issuperset(words) for words in split) / len(split)
    share = sum(counts[word] for word in known) / counts.total()
    is_long = sum(map(len, texts)) > _LONG * len(split)
    if whole >= _COVERED or (is_long and share >= _MOSTLY_COVERED):
        return "word"
    return "character"


def _search_bounds(calibration: int, targets: int) -> dict[str, float]:
    # The other half tunes.
    perfect = np.zeros(max(calibration // 2, 1))
    smallest = _smallest(lambda rate: betting_p_value(perfect, rate))
    greatest = round(1.0 - smallest, 2)
    return {
        "greatest_recall": greatest,
        "target_recall": min(_RECALL, greatest),
        "k": _FOUND,
        # The same few for every source would find as many.
        "min_recall": max(_LEAST_FOUND, round(_FOUND / targets, 2)),
    }


def _smallest(p_value: Callable[[float], Any]) -> float:
    """Returns the smallest rate, in percent, that can be certified."""
    rates = [percent / 100 for percent in range(1, 100)]
    return next(r for r in rates if p_value(r) <= 1.0 - _CONFIDENCE or r > 0.98)
