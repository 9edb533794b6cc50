"""What one answer to all sources would reach: the least a model must do."""

import random
from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence

from keras_moe.metrics import symbol_error_rate

# More of either would tell the same, later.
_COMMONEST, _SAMPLE = 50, 200


def constant_answer(targets: Collection[Sequence[str]]) -> tuple[tuple, float]:
    """Finds the target that has the fewest errors as the answer to all.

    Args:
        targets: not empty; the symbols of each.

    Returns:
        Its symbols, none if an empty answer is as good, and its symbol error
        rate, at most 1.
    """
    split = [tuple(target) for target in targets]
    # A file may have an order.
    sample = random.Random(0).sample(split, min(_SAMPLE, len(split)))
    commonest = Counter(split).most_common(_COMMONEST)
    # Where no target comes twice, the commonest are the first of the file.
    candidates = dict.fromkeys([(), *dict(commonest), *sample])
    references = [[target] for target in sample]
    rates = {
        candidate: symbol_error_rate([candidate] * len(sample), references)
        for candidate in candidates
    }
    best = min(rates, key=lambda candidate: rates[candidate])
    return best, rates[best]
