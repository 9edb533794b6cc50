"""Rows that are drawn uniformly: the baseline."""

from keras_moe.data._selector import Selector
from keras_moe.serialization import register


@register
class RandomSelector(Selector):
    """Draws rows uniformly, and asks no model: the baseline of all others.

    Args:
        from_logits: unused, for there is no model.

    Example:

    >>> selector = keras_moe.data.RandomSelector()
    >>> pool = np.zeros((100, 3))
    >>> indices, weights = selector.select(None, pool, budget=10, seed=1)
    >>> len(indices), set(weights.tolist())
    (10, {1.0})
    """

    num_models = 0
    is_drawn = True
