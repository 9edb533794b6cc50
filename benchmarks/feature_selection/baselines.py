"""Other ways to choose k columns."""

import keras
import numpy as np

from benchmarks.feature_selection.data import Part
from benchmarks.feature_selection.network import network
from benchmarks.feature_selection.network import train

_TREES = 300


def matching_pursuit(part: Part, k: int) -> list[int]:
    """Returns columns by orthogonal matching pursuit, the first first.

    The next column is the one that says most of what a linear model of those
    before it leaves open, of all classes together.

    Args:
        part: the examples.
        k: how many columns.
    """
    x = part.x - part.x.mean(axis=0)
    length = np.linalg.norm(x, axis=0)
    classes = np.eye(part.y.max() + 1)[part.y]
    wanted = classes - classes.mean(axis=0)
    rest, chosen = wanted, []
    for _ in range(k):
        gain = np.square(x.T @ rest).sum(axis=1)
        gain = gain / np.where(length > 0, np.square(length), np.inf)
        gain[chosen] = -1.0
        chosen.append(int(np.argmax(gain)))
        own = x[:, chosen]
        rest = wanted - own @ np.linalg.lstsq(own, wanted, rcond=None)[0]
    return chosen


def extra_trees(part: Part, k: int, seed: int) -> list[int]:
    """Returns the columns of the greatest importance to extremely random trees.

    Args:
        part: the examples.
        k: how many columns.
        seed: of the trees.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(_TREES, random_state=seed).fit(*part)
    return _best(trees.feature_importances_, k)


def anova(part: Part, k: int) -> list[int]:
    """Returns the columns of the greatest F.

    Args:
        part: the examples.
        k: how many columns.
    """
    from sklearn.feature_selection import f_classif

    varies = part.x.std(axis=0) > 0
    scores = np.full(part.x.shape[1], -1.0)
    scores[varies] = f_classif(part.x[:, varies], part.y)[0]
    return _best(scores, k)


class ColumnLasso(keras.regularizers.Regularizer):
    """The sum of the lengths of a kernel's rows: group lasso of columns."""

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, kernel):
        squares = keras.ops.sum(keras.ops.square(kernel), axis=1)
        # The square root has no gradient at 0.
        lengths = keras.ops.sqrt(squares + 1e-12)
        return self.strength * keras.ops.sum(lengths)


def group_lasso(
    part: Part, k: int, strength: float, steps: int, seed: int
) -> list[int]:
    """Returns the columns of the longest rows of a network's first kernel.

    Args:
        part: the examples, scaled.
        k: how many columns.
        strength: factor of the penalty.
        steps: number of updates.
        seed: of the network.
    """
    model = network([], seed, kernel_regularizer=ColumnLasso(strength))
    train(model, part, 2e-3, steps)
    return _best(np.linalg.norm(model.layers[0].get_weights()[0], axis=1), k)


def _best(scores: np.ndarray, k: int) -> list[int]:
    return np.argsort(-scores, kind="stable")[:k].tolist()
