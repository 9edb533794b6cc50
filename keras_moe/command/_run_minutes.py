"""How long a run takes, foretold."""

import math

# Processor seconds of an update, of a unit and of a logit in it, forward and
# back, measured on two cores of an AMD EPYC; how many of them go into a second,
# as little of a small update is done by two cores at once.
_UPDATE, _UNIT, _LOGIT, _AT_ONCE = 0.02, 3.4e-5, 9.4e-8, 1.3
# The minutes of all components that do not train.
_REST = 1.0


def run_minutes(
    steps: int,
    batch_size: int,
    source_length: float,
    target_length: float,
    vocabulary_size: int,
) -> int:
    """Foretells the minutes of a run on two quiet cores.

    Args:
        steps: updates of the model.
        batch_size: pairs of an update.
        source_length: mean number of units of a source.
        target_length: mean number of units of a target.
        vocabulary_size: units that a target may have.
    """
    # Each text has an end, too.
    units = batch_size * (source_length + target_length + 2)
    logits = batch_size * (target_length + 1) * vocabulary_size
    seconds = _UPDATE + _UNIT * units + _LOGIT * logits
    return math.ceil(_REST + steps * seconds / _AT_ONCE / 60)
