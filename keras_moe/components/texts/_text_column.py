"""A column of texts, as ids of characters or of words."""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_transform as tft

from keras_moe.validation import check_choice
from keras_moe.validation import check_size

PAD_ID = 0
END_ID = 1
UNKNOWN_ID = 2
FIRST_ID = 3

_SEPARATORS = {"character": "", "word": " "}


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """How a column of texts becomes ids, and ids a text again.

    The vocabulary is what Transform finds in the training split. Id 0 pads, 1
    ends a text, 2 is all that is not in the vocabulary.

    Attributes:
        name: of the column, and of its vocabulary.
        unit: `"character"`, or `"word"`: what stands between spaces.
        max_length: greatest number of units of a text.

    Raises:
        ValueError: if `unit` is another, or `max_length` is not positive.

    Example:
    ```python
    def preprocessing_fn(inputs):
        source = keras_moe.components.TextColumn("source", "character", 20)
        return {"ids": source.learn(tf.reshape(inputs["source"], [-1]))}
    ```
    """

    name: str
    unit: str
    max_length: int

    def __post_init__(self) -> None:
        check_choice(_SEPARATORS, unit=self.unit)
        check_size(max_length=self.max_length)

    @property
    def separator(self) -> str:
        """What stands between two units."""
        return _SEPARATORS[self.unit]

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts `(batch,)` into units, in a graph."""
        if self.unit == "word":
            return tf.strings.split(texts)
        return tf.strings.unicode_split(tf.strings.strip(texts), "UTF-8")

    def check(self, texts: Iterable[str]) -> None:
        """Raises `ValueError` where a text has more than `max_length` units."""
        for text in texts:
            size = len(text.split() if self.unit == "word" else text.strip())
            if size > self.max_length:
                raise ValueError(
                    f"A text of the column `{self.name}` must have at most "
                    f"{self.max_length} {self.unit}s, as configured. "
                    f"Received: {size} in {text[:40]!r}"
                )

    def learn(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns padded ids of texts, in a `preprocessing_fn`.

        Args:
            texts: strings `(batch,)`.

        Returns:
            int64 `(batch, max_length + 1)`. A longer text is cut.
        """
        units = self.split(texts)[:, : self.max_length]
        ids = FIRST_ID + tft.compute_and_apply_vocabulary(
            units,
            default_value=UNKNOWN_ID - FIRST_ID,
            # From words that are met once, nothing is learned but what to do
            # with an unknown one.
            frequency_threshold=2 if self.unit == "word" else None,
            vocab_filename=self.name,
        )
        end = tf.fill([ids.nrows(), 1], tf.constant(END_ID, tf.int64))
        ended = tf.concat([ids, end], axis=1)
        return ended.to_tensor(PAD_ID, shape=[None, self.max_length + 1])

    def vocabulary(self, transformed: tft.TFTransformOutput) -> list[str]:
        """Returns what ids stand for; special ones stand for nothing.

        Args:
            transformed: Transform's output.
        """
        units = transformed.vocabulary_by_name(self.name)
        return [""] * FIRST_ID + [unit.decode() for unit in units]

    def decode(self, ids: tf.Tensor, vocabulary: Sequence[str]) -> tf.Tensor:
        """Joins the units of ids up to the first end, in a graph.

        Args:
            ids: int `(batch, length)`.
            vocabulary: as `vocabulary` returns it.

        Returns:
            Strings `(batch,)`.
        """
        ended = tf.cumsum(tf.cast(ids == END_ID, tf.int32), axis=1)
        said = (ended == 0) & (ids >= FIRST_ID) & (ids < len(vocabulary))
        kept = tf.ragged.boolean_mask(ids, said)
        units = tf.gather(tf.constant(list(vocabulary)), kept.flat_values)
        return tf.strings.reduce_join(
            kept.with_flat_values(units), axis=-1, separator=self.separator
        )
