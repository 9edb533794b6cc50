"""From texts to token ids and back, for models that answer sequences."""

import pathlib
from typing import Annotated
from typing import Any
from typing import NamedTuple

import tensorflow as tf
import typer

from keras_moe import conversion
from keras_moe.serving.exporting._text_endpoints import DetokenizeFn
from keras_moe.serving.exporting._text_endpoints import TokenizeFn

Tokenizer = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="A directory with tokenizer.json or spiece.model. Without it "
        "texts are token ids with spaces between them, such as '5 6 1'."
    ),
]


class Texts(NamedTuple):
    """How texts become token ids, and token ids become texts.

    Attributes:
        tokenize: as `keras_moe.serving.export` takes it.
        detokenize: likewise.
        tracked: what holds their state.
    """

    tokenize: TokenizeFn
    detokenize: DetokenizeFn
    tracked: tuple[Any, ...]


def texts_of(model: Any, tokenizer: pathlib.Path | None) -> Texts:
    """Returns what a model's texts are made by.

    Args:
        model: whose `config` has its ids.
        tokenizer: directory of a vocabulary; `None` for ids as texts.

    Raises:
        ValueError: if the vocabulary cannot be read, or is larger than the
            model's.
    """
    known = getattr(model.config, "vocabulary_size", None)
    if tokenizer is None:
        return _ids_as_texts(known, model.config.pad_id)
    loaded = conversion.load_tokenizer(tokenizer)
    if known is not None and loaded.vocabulary_size > known:
        raise ValueError(
            f"`--tokenizer` must have at most the {known} ids of the model. "
            f"Received: {loaded.vocabulary_size} in {tokenizer}."
        )
    for name in ("pad_id", "end_id"):
        own, theirs = getattr(model.config, name), getattr(loaded, name)
        if own != theirs:
            raise ValueError(
                f"`--tokenizer` must have the model's {name}, {own}. Received: "
                f"{theirs} in {tokenizer}."
            )
    return Texts(loaded.tokenize, loaded.detokenize, (loaded,))


def _ids_as_texts(vocabulary_size: int | None, pad_id: int) -> Texts:
    def tokenize(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        parts = tf.strings.split(texts)
        ids = tf.ragged.map_flat_values(tf.strings.to_number, parts, tf.int32)
        if vocabulary_size is not None:
            # A program of XLA would take the nearest id, in silence.
            there = (ids.flat_values >= 0) & (ids.flat_values < vocabulary_size)
            said = f"Token ids must be in [0, {vocabulary_size})."
            check = tf.debugging.Assert(tf.reduce_all(there), [said])
            with tf.control_dependencies([] if check is None else [check]):
                ids = tf.identity(ids)
        return {"encoder_token_ids": ids.to_tensor(pad_id)}

    def detokenize(token_ids: tf.Tensor) -> tf.Tensor:
        words = tf.where(
            token_ids != pad_id, tf.strings.as_string(token_ids), ""
        )
        return tf.strings.strip(
            tf.strings.reduce_join(words, axis=1, separator=" ")
        )

    return Texts(tokenize, detokenize, ())
