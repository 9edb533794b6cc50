"""Decoding that draws tokens at random."""

import dataclasses
import math

from keras import ops

from keras_moe.generation._threefry import row_uniforms
from keras_moe.generation._token_by_token import TokenByToken
from keras_moe.types import Tensor
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# Forbidden tokens hold -1e9; no logit of a real model comes near.
_FORBIDDEN = -5e8
# Limit of the factor, near float32's largest number: infinity times a shifted
# logit of 0 would be NaN.
_LARGEST_FACTOR = 1e38


@dataclasses.dataclass(frozen=True)
class Sampling(TokenByToken):
    """Draws tokens from the model's distribution, or from its head.

    First the logits are divided by the temperature, then all but the `top_k`
    most probable tokens are dropped, then all but the nucleus: of what is
    left, renormalised, the smallest set of most probable tokens whose mass
    reaches `top_p`. Of equally probable tokens the first stay. At least one
    token always does. Draws come from what remains, by inversion of its
    cumulative sum in float32, so that probabilities are resolved to about
    1e-7.

    There is no state. The noise is a function of the seed, the position and
    the row's place in the batch: a call can be repeated, and no row's noise
    depends on how many others there are. Another seed gives other answers.

    Source: Holtzman et al., arXiv:1904.09751, section 3.1 (the nucleus) and
    section 3.2 (the top k, the temperature).

    Args:
        temperature: what the logits are divided by: below 1 for more of what
            is probable, above 1 for less.
        top_k: how many tokens may be drawn; `None` for all.
        top_p: mass of the nucleus, in (0, 1]; `None` or 1 for all.
        seed: integer in [0, 2**32).

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> sampling = keras_moe.generation.Sampling(top_p=0.9, seed=7)
    >>> logits = np.log(np.array([[0.05, 0.15, 0.8]] * 1000, "float32"))
    >>> ids, log_probability = sampling.choose(logits, position=0)
    >>> np.unique(ids)
    array([1, 2], dtype=int32)
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self):
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(
                "`temperature` must be positive and finite. Received: "
                f"temperature={self.temperature}."
            )
        check_size(top_k=self.top_k)
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"`top_p` must be in (0, 1]. Received: top_p={self.top_p}."
            )
        if self.seed is None:
            raise ValueError(
                "`seed` must be an integer: there is no state to draw one "
                "from. Received: seed=None."
            )
        check_seed(seed=self.seed)

    def choose(self, logits: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Returns a drawn token for each row, and its log probability.

        Args:
            logits: float32 `(batch, vocabulary)`; forbidden tokens hold -1e9
                and are never drawn.
            position: int32 scalar, from 0.

        Returns:
            Ids, int32 `(batch,)`, and their log probabilities, float32
            `(batch,)`, under the distribution of the logits, not under the one
            that was drawn from: answers drawn at different temperatures can be
            compared by them.
        """
        logits = ops.cast(logits, "float32")
        mass, ids = self._candidates(logits)
        drawn = row_uniforms(self.seed, position, ops.shape(logits)[0])
        chosen = _invert(mass, drawn)[:, None]
        if ids is not None:
            chosen = ops.take_along_axis(ids, chosen, axis=1)
        log_p = ops.log_softmax(logits, axis=-1)
        return (
            chosen[:, 0],
            ops.take_along_axis(log_p, chosen, axis=1)[:, 0],
        )

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns what may be drawn.

        Returns:
            Masses `(batch, candidates)`, not negative, and the candidates'
            ids; `None` stands for all, in order.
        """
        # The greatest shifted logit is 0 whatever the factor.
        shifted = logits - ops.max(logits, axis=1, keepdims=True)
        scaled = shifted * min(1.0 / self.temperature, _LARGEST_FACTOR)
        # A great temperature raises -1e9 so far that the softmax alone would
        # give forbidden tokens some mass.
        scaled = ops.where(logits > _FORBIDDEN, scaled, -math.inf)
        ids = None
        size = logits.shape[1]
        nucleus = self.top_p is not None and self.top_p < 1.0
        if nucleus or (self.top_k or size) < size:
            scaled, ids = ops.top_k(scaled, min(self.top_k or size, size))
        mass = ops.softmax(scaled, axis=1)
        if nucleus:
            before = ops.cumsum(mass, axis=1) - mass
            mass = ops.where(before < self.top_p, mass, 0.0)
        return mass, ids


def _invert(mass: Tensor, drawn: Tensor) -> Tensor:
    """Returns where `drawn` falls in the cumulative sum of `mass`.

    Args:
        mass: `(batch, n)`, not negative, not all 0.
        drawn: `(batch,)`, in [0, 1).

    Returns:
        int32 `(batch,)`, a place whose mass is not 0.
    """
    # XLA sums in another order, so that the cumulative sum may fall: a place
    # without mass could be reached unless its mass is looked at.
    reached = ops.where(mass > 0.0, ops.cumsum(mass, axis=1), 0.0)
    threshold = drawn[:, None] * ops.max(reached, axis=1, keepdims=True)
    beyond = ops.cast(reached > threshold, "int32")
    return ops.cast(ops.argmax(beyond, axis=1), "int32")
