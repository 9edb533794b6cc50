"""When a decoder may stop at an early layer."""

import dataclasses
import math
import numbers

from keras import ops

from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size

CONFIDENCES = ("softmax", "state", "classifier", "entropy")
DECAYS = ("calm", "t5x")
PROPAGATIONS = ("deferred", "eager")


@dataclasses.dataclass(frozen=True)
class EarlyExitPolicy:
    """How sure a decoder must be to emit a token without its upper layers.

    Layers are counted from 1: a token that left after the third has the
    `exit_layer` 3. Each row leaves by itself, whatever the rest of its batch
    does; a layer is not computed when all rows have left below it.

    Source: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061).

    Attributes:
        confidence: what is compared with the threshold, greater or equal.
            `"softmax"`: lead of the likeliest token over the next
            (`keras_moe.ops.softmax_margin`); costs the head at each exit.
            `"state"`: cosine between a layer's input and output
            (`keras_moe.ops.state_saturation`); costs next to nothing.
            `"classifier"`: the model's learned classifier
            (`keras_moe.training.ExitClassifierTrainer`). `"entropy"`:
            `keras_moe.ops.entropy_confidence`; costs the head.
        threshold: how sure it must be. Above 1 no token leaves early.
        min_exit_layer: the lowest layer after which a token may leave.
        exit_interval: distance from one such layer to the next. A token may
            always leave after the last layer.
        decay: whether the threshold falls with the position t of N:
            `"calm"`, to `clip(0.9 threshold + 0.1 exp(-temperature t / N), 0,
            1)` (the paper, equation 5); `"t5x"`, to `threshold (0.9 + 0.1
            exp(-temperature t / N))` (the code published with it); `None`,
            not at all.
        decay_temperature: how fast it falls.
        propagation: how layers above the exit come by the keys and values of
            tokens that left below them. `"deferred"`: from the state at the
            exit, for all such tokens at once when the layer is next computed.
            `"eager"`: at each token, with the same answers; programs compiled
            by XLA do this under either.
        shortlist_size: for `"softmax"` and `"entropy"`: only the first so many
            ids are looked at before a token leaves, and the head is computed
            whole only for the exit. For large vocabularies whose ids are
            ordered by frequency, as SentencePiece's are. `None` for all.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> policy = keras_moe.generation.EarlyExitPolicy("state", threshold=0.95)
    >>> policy.segments(4)
    ((0,), (1,), (2,), (3,))
    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> answer = model.generate(ids, max_length=6, early_exit=policy)
    >>> answer["exit_layer"].shape
    TensorShape([1, 6])
    """

    confidence: str = "softmax"
    threshold: float = 0.9
    min_exit_layer: int = 1
    exit_interval: int = 1
    decay: str | None = None
    decay_temperature: float = 4.0
    propagation: str = "deferred"
    shortlist_size: int | None = None

    def __post_init__(self):
        check_choice(CONFIDENCES, confidence=self.confidence)
        check_choice(PROPAGATIONS, propagation=self.propagation)
        check_size(
            min_exit_layer=self.min_exit_layer,
            exit_interval=self.exit_interval,
            shortlist_size=self.shortlist_size,
        )
        check_positive(decay_temperature=self.decay_temperature)
        if self.decay is not None:
            check_choice(DECAYS, decay=self.decay)
        if (
            not isinstance(self.threshold, numbers.Real)
            or isinstance(self.threshold, bool)
            or math.isnan(self.threshold)
        ):
            raise ValueError(
                "`threshold` must be a number. Received: "
                f"threshold={self.threshold!r}."
            )
        if self.shortlist_size is not None:
            if not self.needs_logits:
                raise ValueError(
                    "`shortlist_size` is for the confidences 'softmax' and "
                    f"'entropy'. Received: shortlist_size="
                    f"{self.shortlist_size}, confidence={self.confidence!r}."
                )
            if self.shortlist_size < 2:
                raise ValueError(
                    "`shortlist_size` must be at least 2. Received: "
                    f"shortlist_size={self.shortlist_size}."
                )

    @property
    def needs_logits(self) -> bool:
        """Whether the confidence is one of logits."""
        return self.confidence in ("softmax", "entropy")

    def segments(self, num_layers: int) -> tuple[tuple[int, ...], ...]:
        """Returns the layers, counted from 0, in groups that end in an exit.

        Args:
            num_layers: layers of the decoder.

        Raises:
            ValueError: if `min_exit_layer` is above them.
        """
        if self.min_exit_layer > num_layers:
            raise ValueError(
                f"`min_exit_layer` must be at most {num_layers}, the number "
                "of decoder layers. Received: min_exit_layer="
                f"{self.min_exit_layer}."
            )
        exits = range(self.min_exit_layer, num_layers, self.exit_interval)
        bounds = [0, *exits, num_layers]
        return tuple(
            tuple(range(start, end))
            for start, end in zip(bounds[:-1], bounds[1:], strict=True)
        )

    def threshold_at(
        self, threshold: Tensor, position: Tensor, max_length: int
    ) -> Tensor:
        """Returns the threshold of a position.

        Args:
            threshold: float32 `(batch,)`, before it decays.
            position: int32 scalar, from 0.
            max_length: greatest number of tokens.
        """
        if self.decay is None:
            return threshold
        spent = ops.cast(position, "float32") / max_length
        falling = ops.exp(-self.decay_temperature * spent)
        if self.decay == "t5x":
            decayed = threshold * (0.9 + 0.1 * falling)
        else:
            decayed = ops.clip(0.9 * threshold + 0.1 * falling, 0.0, 1.0)
        # A threshold above 1 means "never exit"; decay must not bring it below
        # 1.
        return ops.where(threshold > 1.0, threshold, decayed)

    def to_dict(self) -> Config:
        """Returns a plain dictionary without the threshold, fit for JSON.

        A certificate is bound to these fields; the threshold is what it grants.
        """
        fields = dataclasses.asdict(self)
        del fields["threshold"]
        return fields
