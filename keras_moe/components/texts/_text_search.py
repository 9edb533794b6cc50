"""All that TFX calls of a pipeline that learns to find a text for a text."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_moe import serving
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.retrieval._search_task import SearchTask
from keras_moe.components.retrieval._search_task import SearchTaskArgs
from keras_moe.components.texts._read_examples import read_examples
from keras_moe.components.texts._text_to_text import EMPTY
from keras_moe.components.texts._text_to_text import OK
from keras_moe.keras_internals import flatten_layers
from keras_moe.model_folder import KERAS_MODEL
from keras_moe.models import DualEncoder

# Layers with tables, which are no weights, and must be exported by name.
_WITH_TABLES = (keras.layers.StringLookup, keras.layers.TextVectorization)


class TextSearch:
    """What Trainer, `CandidateEmbedder` and `IndexBuilder` do in a search.

    Examples have two features, texts: what is asked, and what is found, which
    is its own identifier. Requests have the first; answers are `identifiers`,
    the best first, with `scores` and a `status`, `"ok"` or `"empty"`.

    Args:
        source: name of the feature that is asked.
        target: name of the feature that is found.

    Example:
    ```python
    def search_task(args):
        task = keras_moe.components.TextSearch("source", "target")
        return task.search_task(args)
    ```
    """

    def __init__(self, source: str = "source", target: str = "target") -> None:
        self.source = source
        self.target = target

    def texts(
        self, file_patterns: Sequence[str], name: str | None = None
    ) -> tf.Tensor:
        """Returns all texts of a feature, in their order.

        Args:
            file_patterns: of the examples.
            name: of the feature; `None` for both, one after the other.
        """
        names = (self.source, self.target) if name is None else (name,)
        spec = {each: tf.io.FixedLenFeature([], tf.string) for each in names}
        examples = read_examples(file_patterns, spec)
        return tf.concat([examples[each] for each in names], axis=0)

    def batches(
        self, file_patterns: Sequence[str], batch_size: int, seed: int = 0
    ) -> Any:
        """Returns what `keras_moe.training.Trainer.fit` takes.

        Args:
            file_patterns: of the examples.
            batch_size: pairs of a batch: each source has the targets of all
                others as negatives.
            seed: of the order.

        Returns:
            A function from the number of an epoch to an endless data set of
            `{"query": texts, "document": texts}` and a hash of the target:
            where a batch has a pair twice, it is no negative of itself.
        """
        documents = self.texts(file_patterns, self.target)
        texts = {
            "query": self.texts(file_patterns, self.source),
            "document": documents,
        }
        keys = tf.strings.to_hash_bucket_fast(documents, 2**30)
        pairs = tf.data.Dataset.from_tensor_slices(
            (texts, tf.cast(keys, tf.int32))
        )

        def epoch_batches(epoch: int) -> tf.data.Dataset:
            # All of them: an epoch may take fewer than there are, and would
            # never come to the last ones.
            order = pairs.shuffle(len(pairs), seed=100_000 * seed + epoch)
            return order.repeat().batch(batch_size).prefetch(4)

        return epoch_batches

    def export_encoder(
        self, model: DualEncoder, directory: str | os.PathLike
    ) -> None:
        """Writes what embeds candidates, and the Keras model beside it.

        Args:
            model: trained; its encoders read texts.
            directory: where to write, here or in a remote store.
        """
        text = tf.io.FixedLenFeature([], tf.string)

        def embed(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            found = tf.io.parse_example(examples, {self.target: text})
            return {"embedding": model.encode_documents(found[self.target])}

        examples = tf.TensorSpec([None], tf.string, name="examples")
        with written_locally(directory) as local:
            serving.export_endpoints(
                local,
                {"embed_candidates": (embed, [examples])},
                tracked=_with_tables(model),
                assets={KERAS_MODEL.name: model.save},
            )

    def search_task(self, args: SearchTaskArgs) -> SearchTask:
        """Makes the task of `IndexBuilder`, which tunes it on sources.

        Args:
            args: `custom_config` holds `default_k`, how many answers a request
                has that does not say.
        """
        model: Any = args.encoder

        def encode(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            sizes = tf.strings.length(tf.strings.strip(texts))
            return {
                "embedding": model.encode_queries(texts),
                "status": tf.where(sizes == 0, EMPTY, OK),
            }

        def export(directory: Any, index: Any) -> None:
            serving.export_search(
                directory,
                encode,
                index,
                args.custom_config["default_k"],
                input_name=self.source,
                tracked=_with_tables(model),
            )

        texts = self.texts(args.example_files, self.source)
        return SearchTask(model.encode_queries(texts).numpy(), export)


def _with_tables(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer
        for layer in flatten_layers(model)
        # A lookup within a vectorization is never built, and comes with it.
        if isinstance(layer, _WITH_TABLES) and layer.built
    ]
