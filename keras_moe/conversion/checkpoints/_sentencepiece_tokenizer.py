"""A SentencePiece vocabulary inside a served graph."""

import re
from collections.abc import Sequence

import tensorflow as tf

from keras_moe.types import Tensor


class SentencePieceTokenizer(tf.Module):
    """Turns strings into ids and back, by operations of the graph.

    For `keras_moe.serving.export`, with `tracked=[tokenizer]`. The graph has
    operations of `tensorflow-text`, which the stock `tensorflow/serving` image
    has and the embedded server imports (`pip install ".[text]"`).

    `keras_moe.conversion.load_tokenizer` makes one from a checkpoint.

    Args:
        model: a SentencePiece model, serialized.
        pad_id: id of padding, with which rows are filled.
        end_id: id that ends a sequence.
        adds_end: whether `tokenize` appends it.
        splits_at: a regular expression of what counts as a space, `None` for
            what the model's normaliser makes one.
        marks: pieces that stand for themselves, such as `<extra_id_0>`, with or
            without spaces around them.

    Raises:
        ValueError: if `model` is no SentencePiece model.
        ImportError: if `tensorflow-text` is missing.

    Example:

    >>> import io
    >>> import sentencepiece
    >>> model = io.BytesIO()
    >>> sentencepiece.SentencePieceTrainer.train(
    ...     sentence_iterator=iter(["a small world", "all the world"]),
    ...     model_writer=model,
    ...     vocab_size=30,
    ...     hard_vocab_limit=False,
    ...     pad_id=0,
    ...     eos_id=1,
    ...     unk_id=2,
    ...     bos_id=-1,
    ...     minloglevel=2,
    ... )
    >>> tokenizer = keras_moe.conversion.SentencePieceTokenizer(
    ...     model.getvalue(), pad_id=0, end_id=1
    ... )
    >>> ids = tokenizer.tokenize(["small world", "all"])["encoder_token_ids"]
    >>> tokenizer.detokenize(ids)
    <tf.Tensor: shape=(2,), dtype=string, numpy=array([b'small world', ...
    """

    def __init__(
        self,
        model: bytes,
        *,
        pad_id: int,
        end_id: int,
        adds_end: bool = True,
        splits_at: str | None = None,
        marks: Sequence[str] = (),
    ):
        super().__init__(name="sentencepiece_tokenizer")
        try:
            import tensorflow_text
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "`SentencePieceTokenizer` needs tensorflow-text. Install it "
                "with `pip install keras-moe[text]`.",
                name=error.name,
            ) from error
        try:
            self._pieces = tensorflow_text.SentencepieceTokenizer(model)
            self.vocabulary_size = int(self._pieces.vocab_size())
        except tf.errors.OpError as error:
            raise ValueError(
                "`model` must be a SentencePiece model. Received: "
                f"{len(model)} bytes; {error.message}."
            ) from error
        for name, given in (("pad_id", pad_id), ("end_id", end_id)):
            if not 0 <= given < self.vocabulary_size:
                raise ValueError(
                    f"`{name}` must be an id of the vocabulary, in [0, "
                    f"{self.vocabulary_size}). Received: {name}={given}."
                )
        self.pad_id = pad_id
        self.end_id = end_id
        self.adds_end = adds_end
        self._splits_at = splits_at
        self._marks: tf.Tensor | None = None
        if marks:
            # The longest first, of those that begin alike.
            longest = sorted(marks, key=len, reverse=True)
            self._mark = f"({'|'.join(map(re.escape, longest))})"
            self._marks = self._pieces.string_to_id(list(marks))
            self._space = self._pieces.string_to_id("\u2581")

    def tokenize(self, texts: Tensor) -> dict[str, Tensor]:
        """Returns the ids of strings, as `keras_moe.serving.export` wants them.

        Args:
            texts: string `(batch,)`.

        Returns:
            `encoder_token_ids`, int32 `(batch, length)`, filled with padding.
        """
        texts = tf.convert_to_tensor(texts)
        if self._splits_at is not None:
            texts = tf.strings.regex_replace(texts, self._splits_at, " ")
        if self._marks is not None:
            texts = tf.strings.regex_replace(texts, self._mark, r"\1 ")
        ids = self._pieces.tokenize(texts)
        if self._marks is not None:
            ids = self._without_spaces(ids)
        if self.adds_end:
            ends = tf.fill([tf.shape(texts)[0], 1], self.end_id)
            ids = tf.concat([ids, ends], axis=1)
        return {"encoder_token_ids": ids.to_tensor(self.pad_id)}

    def _without_spaces(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Drops the space before a mark, which is no piece of a word there."""
        rows = ids.value_rowids()
        follows = tf.concat([rows[1:] == rows[:-1], [False]], axis=0)
        following = tf.concat([ids.flat_values[1:], [self.pad_id]], axis=0)
        marked = tf.reduce_any(following[:, tf.newaxis] == self._marks, axis=1)
        space = (ids.flat_values == self._space) & marked & follows
        return tf.ragged.boolean_mask(ids, ids.with_flat_values(~space))

    def detokenize(self, token_ids: Tensor) -> Tensor:
        """Returns the strings of ids, up to the first that ends a sequence.

        Padding is left out, and so are ids beyond the vocabulary: tables of
        models are larger, and an id that SentencePiece does not know would
        fail the whole batch.

        Args:
            token_ids: int `(batch, length)`.
        """
        token_ids = tf.cast(token_ids, "int32")
        ended = tf.cumsum(tf.cast(token_ids == self.end_id, "int32"), axis=1)
        said = (ended == 0) & (token_ids != self.pad_id)
        known = (token_ids >= 0) & (token_ids < self.vocabulary_size)
        return self._pieces.detokenize(
            tf.ragged.boolean_mask(token_ids, said & known)
        )
