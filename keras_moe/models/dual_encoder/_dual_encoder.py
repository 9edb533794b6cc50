"""A model that finds documents for queries."""

from typing import Any

import keras
from keras import ops

from keras_moe.losses._in_batch_softmax import in_batch_hits
from keras_moe.losses._in_batch_softmax import in_batch_softmax
from keras_moe.losses._replica_share import replica_share
from keras_moe.losses._replica_share import without_replica_share
from keras_moe.models.dual_encoder._batch import DOCUMENT
from keras_moe.models.dual_encoder._batch import NEGATIVES
from keras_moe.models.dual_encoder._batch import QUERY
from keras_moe.models.dual_encoder._batch import Batch
from keras_moe.models.dual_encoder._batch import joined
from keras_moe.models.dual_encoder._batch import read_batch
from keras_moe.models.dual_encoder._check_weights import check_weights
from keras_moe.models.dual_encoder._input_signature import input_signature
from keras_moe.models.dual_encoder._no_negatives import WarnOfNoNegatives
from keras_moe.models.dual_encoder._no_negatives import warn_of_no_negatives
from keras_moe.models.dual_encoder._shared_layers import serialize_encoders
from keras_moe.models.dual_encoder._usable_rows import usable_rows
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_positive
from keras_moe.validation import check_size


@register
class DualEncoder(keras.Model):
    """Embeds queries and documents, near each other where they belong together.

    Trained by a softmax over the documents of the batch: each query must find
    its own. The loss is the model's own, plus what layers of the encoders add
    by `add_loss`, as those with experts do.

    Any Keras models can be the encoders: what matters is that both give vectors
    of one size. Layers may be in both of them; but if both are Functional or
    Sequential, Keras could not load what was saved, and `save` says so.

    A row of a batch that is not finite, has an input `"..._mask"` without a
    true, a vector of length 0 or a probability that is none is left out:
    neither a query nor a negative of others. (Keras's own average pooling gives
    NaN for a row that is all padding, and what comes after it spoils gradients;
    `layers.MeanPooling` gives 0.)

    Args:
        query_encoder: from what `"query"` holds to `[rows, dim]`.
        document_encoder: from what `"document"` holds to `[rows, dim]`; `None`
            for the same one.
        temperature: scores are divided by it. With normalised vectors, 0.05
            or so; without, 1.
        normalize: whether vectors are made 1 long, so that scores are cosines.
        num_hard_negatives: how many negatives of each query count, the hardest
            of the batch; `None` for all.
        dtype: policy by which `compile` scales losses, by default that of the
            query's encoder. Vectors and scores are float32.
        name: name of the model.

    Call arguments:
        inputs: a dictionary. `"query"` and `"document"`: what the encoders
            read; one alone is enough to embed it. `"negatives"`: more documents
            for each query, `[batch, number, ...]`, see `mine_hard_negatives`;
            all queries of the batch have them as negatives. `"negative_keys"`:
            int `[batch, number]` or `[batch, number, keys]`, their labels.
            `"sampling_probability"`: `[batch]` in (0, 1], how likely the
            document is in a batch, for the logQ correction;
            `"negative_sampling_probability"`: `[batch, number]`, as well.
        training: whether to train.

    Labels:
        None, or int keys of the documents, `[batch]` or `[batch, keys]`, below
        0 for none: documents that share a key, the same identifier or the hash
        of a common word, are no negatives of each other's queries.

    Output:
        A dictionary with float32 vectors: `"query"` and `"document"` `[batch,
        dim]`, `"negatives"` `[batch, number, dim]`. NaN for rows that are not
        finite. Metrics are `in_batch_accuracy`, the share of queries that find
        their document first, and `in_batch_negatives`, how many negatives a
        query had.

    Raises:
        ValueError: if an argument is out of its range, an input is missing, or
            labels are not integers.

    Example:

    >>> encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = keras_moe.models.DualEncoder(encoder)
    >>> model.compile("adam")
    >>> x = {"query": np.random.rand(6, 8), "document": np.random.rand(6, 8)}
    >>> history = model.fit(x, y=np.array([1, 2, 3, 4, 5, 1]), verbose=0)
    >>> sorted(history.history)
    ['in_batch_accuracy', 'in_batch_negatives', 'loss']
    >>> model.encode_queries(np.random.rand(2, 8)).shape
    TensorShape([2, 4])
    """

    def __init__(
        self,
        query_encoder: keras.Model,
        document_encoder: keras.Model | None = None,
        temperature: float = 0.05,
        *,
        normalize: bool = True,
        num_hard_negatives: int | None = None,
        dtype: Any = None,
        name: str = "dual_encoder",
    ):
        check_positive(temperature=temperature)
        check_size(num_hard_negatives=num_hard_negatives)
        if document_encoder is None:
            document_encoder = query_encoder
        for role, encoder in (
            ("query_encoder", query_encoder),
            ("document_encoder", document_encoder),
        ):
            if not isinstance(encoder, keras.layers.Layer):
                raise ValueError(
                    f"`{role}` must be a Keras model or layer. Received: "
                    f"{role}={encoder!r}."
                )
        super().__init__(
            name=name,
            dtype=query_encoder.dtype_policy if dtype is None else dtype,
            # Each encoder casts for itself.
            autocast=False,
        )
        self.query_encoder = query_encoder
        self.document_encoder = document_encoder
        self.temperature = float(temperature)
        self.normalize = bool(normalize)
        self.num_hard_negatives = num_hard_negatives
        self.accuracy_tracker = keras.metrics.Mean(name="in_batch_accuracy")
        self.negatives_tracker = keras.metrics.Mean(name="in_batch_negatives")
        self.built = query_encoder.built and document_encoder.built

    def build(self, input_shape: Any = None) -> None:
        """Leaves it to the encoders, which are built when they are called."""
        self.built = True

    # === Vectors ===

    def encode_queries(
        self, inputs: Any, training: bool | None = None
    ) -> Tensor:
        """Returns float32 vectors of queries, `[rows, dim]`."""
        return self._encode(self.query_encoder, inputs, training)

    def encode_documents(
        self, inputs: Any, training: bool | None = None
    ) -> Tensor:
        """Returns float32 vectors of documents, `[rows, dim]`."""
        return self._encode(self.document_encoder, inputs, training)

    def _encode(
        self, encoder: keras.layers.Layer, inputs: Any, training: bool | None
    ) -> Tensor:
        inputs, usable = usable_rows(
            keras.tree.map_structure(ops.convert_to_tensor, inputs)
        )
        vectors = ops.cast(encoder(inputs, training=training), "float32")
        if self.normalize:
            # `ops.normalize` has a gradient of NaN at a vector of 0.
            square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
            scale = ops.rsqrt(ops.where(square > 0, square, 1.0))
            vectors = vectors * scale
        if usable is None:
            return vectors
        return ops.where(ops.expand_dims(usable, 1), vectors, float("nan"))

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, Tensor]:
        if not isinstance(inputs, dict) or not {QUERY, DOCUMENT} & set(inputs):
            given = sorted(inputs) if isinstance(inputs, dict) else inputs
            raise ValueError(
                f"`inputs` must be a dictionary with {QUERY!r}, {DOCUMENT!r} "
                f"or both. Received: {given}."
            )
        outputs = {}
        if QUERY in inputs:
            outputs[QUERY] = self.encode_queries(inputs[QUERY], training)
        if DOCUMENT in inputs:
            outputs[DOCUMENT] = self.encode_documents(
                inputs[DOCUMENT], training
            )
        if NEGATIVES in inputs:
            negatives = inputs[NEGATIVES]
            number = ops.shape(keras.tree.flatten(negatives)[0])[1]
            vectors = self.encode_documents(
                keras.tree.map_structure(joined, negatives), training
            )
            outputs[NEGATIVES] = ops.reshape(
                vectors, (-1, number, vectors.shape[-1])
            )
        return outputs

    # === Training ===

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        **kwargs,
    ) -> None:
        """Sets how the model learns; the loss is its own.

        Args:
            optimizer: any.
            loss: `None`.
            metrics: `None`; see `RetrievalEvaluation` for those of a search.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if there is a loss, or there are metrics.
        """
        if loss is not None or metrics:
            raise ValueError(
                "`loss` and `metrics` must be left out: the model has its own, "
                "and `RetrievalEvaluation` measures a search. Received: "
                f"loss={loss!r}, metrics={metrics!r}."
            )
        super().compile(optimizer, loss=None, metrics=None, **kwargs)

    def compile_from_config(self, config: Config) -> None:
        """Compiles as a saved model was: Keras leaves it to who overrides."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *args: Any,
        callbacks: Any = None,
        **options: Any,
    ) -> Any:
        """Trains as Keras does; warns of batches without negatives."""
        check_weights(y, options)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.tree.flatten(callbacks or [])
            callbacks = [*callbacks, WarnOfNoNegatives()]
        return super().fit(x, y, *args, callbacks=callbacks, **options)

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **options: Any
    ) -> Any:
        """Evaluates as Keras does."""
        check_weights(y, options)
        return super().evaluate(x, y, *args, **options)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, **options: Any
    ) -> Any:
        """Trains as Keras does."""
        check_weights(y, {"sample_weight": sample_weight, **options})
        return super().train_on_batch(x, y, sample_weight, **options)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: dict[str, Tensor] | None = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the softmax over the batch, and the losses that layers add.

        Args:
            x: the inputs.
            y: keys of the documents, or `None`.
            y_pred: the vectors; `None` runs the encoders.
            sample_weight: `[batch]`.
            training: whether to train.
        """
        outputs = self(x, training=training) if y_pred is None else y_pred
        batch = read_batch(x, y, outputs, self.temperature)
        with without_replica_share():
            loss = in_batch_softmax(
                batch.scores,
                batch.excluded,
                batch.sampling_probability,
                self.num_hard_negatives,
                batch.mask,
                sample_weight,
            )
        self._track(batch)
        for extra in self.losses:
            loss = loss + ops.cast(ops.sum(extra), loss.dtype)
        return loss * replica_share()

    def _track(self, batch: Batch) -> None:
        hits, numbers = in_batch_hits(
            ops.stop_gradient(batch.scores), batch.excluded, batch.mask
        )
        warn_of_no_negatives(self, batch.scores, numbers)
        # A query without a negative has found its document, and shows nothing.
        self.accuracy_tracker.update_state(hits, sample_weight=numbers > 0)
        self.negatives_tracker.update_state(numbers, sample_weight=batch.mask)

    # === What the model is ===

    def export(self, filepath: Any, *args: Any, **options: Any) -> Any:
        """Exports the model as `keras.Model.export` does.

        Functional encoders know what they read, and so the model need not have
        been called. Export `query_encoder` alone, or by
        `keras_moe.serving.export_endpoints`, to serve a search.
        """
        signature = input_signature(self.query_encoder, self.document_encoder)
        if not args and signature is not None:
            options.setdefault("input_signature", signature)
        return super().export(filepath, *args, **options)

    def get_config(self) -> Config:
        queries, documents = serialize_encoders(
            self.query_encoder, self.document_encoder
        )
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "query_encoder": queries,
            "document_encoder": documents,
            "temperature": self.temperature,
            "normalize": self.normalize,
            "num_hard_negatives": self.num_hard_negatives,
        }

    @classmethod
    def from_config(cls, config: Config, custom_objects=None) -> "DualEncoder":
        """Rebuilds the model from `get_config`."""
        encoders = {
            role: keras.saving.deserialize_keras_object(
                config[role], custom_objects
            )
            for role in ("query_encoder", "document_encoder")
            if config[role] is not None
        }
        return cls(**{**config, **encoders})
