"""The encoder-decoder model."""

import functools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._decoder import Decoder
from keras_moe.models.switch_transformer._decoding import Decoding
from keras_moe.models.switch_transformer._encoder import Encoder
from keras_moe.models.switch_transformer._presets import PRESETS
from keras_moe.models.switch_transformer._presets import load_preset
from keras_moe.models.switch_transformer._presets import save_preset
from keras_moe.models.switch_transformer._turned_table import logits_of_turned
from keras_moe.ops._short_sequences import apply_dense
from keras_moe.ops._token_ids import read_ids
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.serialization import sublayer_dtype
from keras_moe.training._traced_once import TracedOnce
from keras_moe.training._unshifted_targets import watch_targets
from keras_moe.types import Config
from keras_moe.types import LayoutTable
from keras_moe.types import Tensor


@register
class SwitchTransformer(Decoding, TracedOnce):
    """T5-style encoder-decoder, sparse or dense.

    Relative position biases shared over the layers of a stack, RMS norm
    before each sublayer, no biases, and a mixture of experts in every
    `moe_every`-th block of encoder and decoder.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961) on
    [Raffel et al., 2019](https://arxiv.org/abs/1910.10683).

    Args:
        config: a `SwitchTransformerConfig`; or give its fields as keyword
            arguments.
        dtype: dtype or policy of the computation; routing is in float32
            whatever it is.
        name: name of the model.
        **sizes: fields of `SwitchTransformerConfig`.

    Call arguments:
        inputs: a dictionary with `encoder_token_ids`, int `(batch,
            source_length)`, and `decoder_token_ids`, int `(batch,
            target_length)`: the target, shifted right by one
            (`keras_moe.ops.shift_right`).
        training: whether to train.

    Masking:
        Padding is recognised by `pad_id`. It is attended by nobody and routed
        to no expert.

    Output shape:
        float32 logits `(batch, target_length, target_vocabulary_size)`.

    Raises:
        ValueError: if a size is out of its range, or both `config` and sizes
            are given; when eager, for ids outside the vocabulary, which give
            NaN in a graph.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> model(inputs).shape
    TensorShape([1, 4, 32])
    >>> model.generate(ids, max_length=6)["token_ids"].shape
    TensorShape([1, 6])
    """

    # Tables are `(vocabulary, model_dim)`; both sides share one if `config`
    # says so, hence the "?".
    LAYOUT: LayoutTable = {
        "source_embedding/embeddings?": (None, "model"),
        "target_embedding/embeddings": (None, "model"),
    }

    def __init__(
        self,
        config: SwitchTransformerConfig | None = None,
        *,
        dtype=None,
        name: str = "switch_transformer",
        **sizes,
    ):
        super().__init__(dtype=dtype, name=name)
        if config is not None and sizes:
            raise ValueError(
                "Sizes must be given either in `config` or as keyword "
                f"arguments. Received both: {sorted(sizes)}."
            )
        self.config = config or SwitchTransformerConfig(**sizes)

        # === Layers ===
        self.target_embedding = self._embedding(
            self.config.output_size, "target_embedding"
        )
        if self.config.target_vocabulary_size is None:
            self.source_embedding = self.target_embedding
        else:
            self.source_embedding = self._embedding(
                self.config.vocabulary_size, "source_embedding"
            )
        self.encoder = Encoder(
            self.config, dtype=self.dtype_policy, name="encoder"
        )
        self.decoder = Decoder(
            self.config, dtype=self.dtype_policy, name="decoder"
        )
        if not self.config.tie_embeddings:
            self.head = keras.layers.Dense(
                self.config.output_size,
                use_bias=False,
                dtype=sublayer_dtype(self, "head"),
                name="head",
            )
        if self.config.exit_classifier:
            self.exit_classifier = keras.layers.Dense(
                1, dtype="float32", name="exit_classifier"
            )
            # The classifier is trained after the model, by
            # `ExitClassifierTrainer`.
            self.exit_classifier.trainable = False
        self.build()

    def _embedding(self, size: int, name: str) -> keras.layers.Embedding:
        # `ReversibleEmbedding` dequantises an int8 table before it multiplies;
        # a product of our own with `embeddings` would take the raw integers.
        return keras.layers.ReversibleEmbedding(
            size,
            self.config.model_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            dtype=sublayer_dtype(self, name),
            name=name,
        )

    def build(self, input_shape=None) -> None:
        """Makes all weights; their shapes do not depend on the input."""
        hidden = (None, None, self.config.model_dim)
        self.source_embedding.build((None, None))
        if not self.target_embedding.built:
            self.target_embedding.build((None, None))
        self.encoder.build(hidden)
        self.decoder.build(hidden)
        if not self.config.tie_embeddings:
            self.head.build(hidden)
        if self.config.exit_classifier:
            self.exit_classifier.build(hidden)

    # === Teacher-forced ===

    def fit(self, x: Any = None, y: Any = None, *args: Any, **options: Any):
        """Trains as Keras does; warns of targets that were not shifted."""
        x = watch_targets(x, y, self.config.pad_id)
        return super().fit(x, y, *args, **options)

    def call(
        self, inputs: dict[str, Tensor], training: bool | None = None
    ) -> Tensor:
        return self.logits(self.decoder(**self._taught(inputs, training)))

    def exit_states(
        self,
        inputs: dict[str, Tensor],
        layers: Sequence[int],
        training: bool | None = None,
    ) -> list[Tensor]:
        """Returns what the head would take if the decoder stopped early.

        Args:
            inputs: as for `call`.
            layers: after which decoder layers, counted from 1.
            training: whether to train.

        Returns:
            For each a tensor `(batch, target_length, model_dim)`, normalised;
            `logits` gives the exit's logits.
        """
        return self.decoder.exit_states(
            layers, **self._taught(inputs, training)
        )

    def _taught(self, inputs: dict[str, Tensor], training: bool | None) -> dict:
        """Returns the decoder's arguments for a known target."""
        _check_inputs(inputs)
        targets = inputs["decoder_token_ids"]
        memory, memory_mask = self.encode(
            inputs["encoder_token_ids"], training=training
        )
        # The start id may be the id of padding, but must not be masked.
        first = ops.arange(ops.shape(targets)[1]) == 0
        return {
            "inputs": self._look_up(
                self.target_embedding, targets, "decoder_token_ids"
            ),
            "memory": memory,
            "padding_mask": (targets != self.config.pad_id) | first,
            "memory_mask": memory_mask,
            "training": training,
        }

    def encode(
        self, token_ids: Tensor, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the encoder's output and its mask.

        Args:
            token_ids: int `(batch, length)`.
            training: whether to train.

        Returns:
            `(batch, length, model_dim)` and bool `(batch, length)`.
        """
        padding_mask = token_ids != self.config.pad_id
        memory = self.encoder(
            self._look_up(self.source_embedding, token_ids, "token_ids"),
            padding_mask=padding_mask,
            training=training,
        )
        return memory, padding_mask

    def _look_up(
        self, table: keras.layers.Embedding, token_ids: Tensor, name: str
    ) -> Tensor:
        """Embeds ids that were given: NaN, not another's row, for wrong ones.

        A negative id would count from the end of the table, and one that is
        too large read zeros or the last row, by device.
        """
        read = read_ids(token_ids, table.input_dim, name=name)
        rows = table(read.ids)
        return ops.where(ops.expand_dims(read.wrong, -1), np.nan, rows)

    def logits(
        self, hidden: Tensor, kernels: tuple[Tensor, ...] = ()
    ) -> Tensor:
        """Returns float32 logits for the decoder's normalised output.

        Args:
            hidden: `(batch, length, model_dim)`.
            kernels: those of a tied head whose table was turned before.
        """
        if not self.config.tie_embeddings:
            return ops.cast(apply_dense(self.head, hidden), "float32")
        scaled = hidden * self.config.model_dim**-0.5
        head = functools.partial(self.target_embedding, reverse=True)
        if kernels:
            head = functools.partial(logits_of_turned, kernels=kernels)
        return ops.cast(apply_dense(head, scaled), "float32")

    # === Config ===

    @classmethod
    def from_preset(cls, preset: str, **overrides) -> "SwitchTransformer":
        """Makes a model of a named size, or loads one from a directory.

        A name is that of a size alone: the weights are random. A directory
        has those that were saved to it.

        Args:
            preset: a name from `SwitchTransformer.presets`, or a directory
                that `save_to_preset` wrote.
            **overrides: fields of `SwitchTransformerConfig` to change, and
                `dtype`. What a directory holds must fit them.

        Raises:
            ValueError: if there is no such preset, or its weights do not fit
                the overrides.
        """
        return load_preset(cls, preset, overrides)

    def save_to_preset(self, directory: str) -> None:
        """Writes the config and the weights to `directory`."""
        save_preset(self, directory)

    presets = PRESETS

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            **quantized_dtype(self),
            **self.config.to_dict(),
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects=None
    ) -> "SwitchTransformer":
        """Rebuilds the model from `get_config`."""
        return cls(**config)


def _check_inputs(inputs: Any) -> None:
    names = ("encoder_token_ids", "decoder_token_ids")
    given = sorted(inputs) if isinstance(inputs, Mapping) else None
    if given is None or any(name not in given for name in names):
        raise ValueError(
            f"`inputs` must be a dictionary with {names[0]!r} and "
            f"{names[1]!r}. Received: "
            f"{type(inputs).__name__ if given is None else given}."
        )
