"""What self-speculative decoding can be told."""

import dataclasses

from keras_moe.validation import check_size


@dataclasses.dataclass(frozen=True)
class SelfSpeculative:
    """Drafts with the lower layers, verifies with all: greedy, and lossless.

    The layers up to `draft_layer` say a few tokens in a row; the layers above
    then look at all of them at once, with one product of matrices where token
    by token they would need `draft_length`. What they would have said
    otherwise is corrected. The answer is that of `Greedy`, but where two tokens
    are likely alike to the last bits of a float.

    Keys, values and states of the draft are those of the verification: nothing
    is computed twice. Rows of a batch go at the pace of the one whose draft
    was the worst.

    Source: [LayerSkip, Elhoushi et al.,
    2024](https://arxiv.org/abs/2404.16710), section 4.3.

    Attributes:
        draft_layer: the last of the layers that draft, counted from 1.
        draft_length: tokens drafted at a time.

    Raises:
        ValueError: if one is not a positive integer.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> strategy = keras_moe.generation.SelfSpeculative(1, draft_length=3)
    >>> draft = model.generate(ids, max_length=6, strategy=strategy)
    >>> bool(np.all(draft["token_ids"] == model.generate(ids, 6)["token_ids"]))
    True
    """

    draft_layer: int
    draft_length: int = 4

    def __post_init__(self):
        check_size(draft_layer=self.draft_layer, draft_length=self.draft_length)
