"""The sizes of a Switch Transformer."""

import dataclasses

from keras_moe.layers.attention._feature_options import FEATURE_MAPS
from keras_moe.types import Config
from keras_moe.validation import check_choice
from keras_moe.validation import check_rate
from keras_moe.validation import check_size

CAUSAL_ROUTERS = (
    "switch",
    "top_k",
    "gshard",
    "glam",
    "st_moe",
    "bias_balanced",
)
ATTENTIONS = ("softmax", "random_feature")
POSITION_ENCODINGS = ("relative_bias", "rotary")
ROUTERS = (*CAUSAL_ROUTERS, "v_moe", "expert_choice")


@dataclasses.dataclass(frozen=True)
class SwitchTransformerConfig:
    """The sizes and options of a `SwitchTransformer`.

    Attributes:
        vocabulary_size: ids of the encoder (and of the decoder, unless
            `target_vocabulary_size` is given).
        target_vocabulary_size: ids of the decoder; `None` for one vocabulary
            and one embedding for both sides.
        model_dim: size of the residual stream.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        num_heads: attention heads.
        key_dim: size of each head; `None` for `model_dim / num_heads`.
        hidden_dim: inner size of the feed-forward networks.
        activation: their activation: a name of Keras's, or `"gelu_tanh"`
            (`keras_moe.ops.gelu_tanh`).
        gated: whether they are gated linear units.
        num_experts: experts of each sparse block; 0 makes a dense model.
        moe_every: every how many blocks one is sparse (2: the second, the
            fourth, ...), in encoder and decoder. One of the two must be so
            deep, unless `num_experts` is 0.
        encoder_router: how the encoder routes, a name of `SparseMoE`'s
            `router`: `"switch"`, `"top_k"`, `"gshard"`, `"glam"`, `"st_moe"`,
            `"bias_balanced"`, `"v_moe"` or `"expert_choice"` (which chooses
            within each sequence).
        decoder_router: how the decoder routes; not `"v_moe"` or
            `"expert_choice"`, which look at later tokens.
        capacity_factor: slack of the experts' capacity in training; `None`
            is dropless. For `"expert_choice"` the mean number of experts of a
            token, in evaluation, too.
        jitter_noise: noise of the router's input in training.
        load_balancing_loss_weight: weight of the load-balancing loss, for
            routers that have one.
        router_z_loss_weight: weight of the router's z-loss.
        report_metrics: whether the metrics of routers, seven a sparse block,
            are among the model's, and so in each line of its logs.
        dropout_rate: dropout everywhere but inside experts.
        expert_dropout_rate: dropout inside experts.
        layer_dropout_rate: how often, in training, the last decoder block is
            left out for a row; lower blocks are left out less often
            (`keras_moe.layers.LayerDropout`).
        exit_classifier: whether the model has a learned confidence of its
            decoder's exits (`keras_moe.training.ExitClassifierTrainer`).
        expert_initializer_scale: variance scale of the experts' kernels;
            0.1 as the Switch paper has it (arXiv:2101.03961, section 2.4).
        attention: `"softmax"`, pair by pair, or `"random_feature"`, in time and
            memory linear in length (`keras_moe.layers.RandomFeatureAttention`).
        num_random_features: features of each head, for `"random_feature"`.
        feature_map: which random features, see
            `keras_moe.layers.RandomFeatures`.
        position_encoding: `"relative_bias"`, as T5 has it, or `"rotary"`. The
            default is `"relative_bias"` for softmax attention and `"rotary"`
            for random features, which have no scores that a bias could be
            added to.
        num_relative_buckets: buckets of relative distance.
        max_relative_distance: distance from which on all distances share one
            bucket.
        tie_embeddings: whether the logits reuse the target embedding.
        pad_id: id of padding.
        end_id: id that ends a sequence.
        start_id: id that the decoder starts from (in T5 the id of padding).

    Raises:
        ValueError: if a size is out of its range, or no block would hold the
            experts.

    Example:

    >>> config = keras_moe.models.SwitchTransformerConfig(
    ...     vocabulary_size=1000, num_experts=16
    ... )
    >>> dense = {**config.to_dict(), "num_experts": 0}
    >>> keras_moe.models.SwitchTransformerConfig(**dense).num_experts
    0
    """

    vocabulary_size: int
    target_vocabulary_size: int | None = None
    model_dim: int = 512
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    key_dim: int | None = None
    hidden_dim: int = 2048
    activation: str = "relu"
    gated: bool = False
    num_experts: int = 8
    moe_every: int = 2
    encoder_router: str = "switch"
    decoder_router: str = "switch"
    capacity_factor: float | None = 1.25
    jitter_noise: float = 0.01
    load_balancing_loss_weight: float = 0.01
    router_z_loss_weight: float = 0.001
    report_metrics: bool = True
    dropout_rate: float = 0.1
    expert_dropout_rate: float = 0.1
    layer_dropout_rate: float = 0.0
    exit_classifier: bool = False
    expert_initializer_scale: float = 0.1
    attention: str = "softmax"
    num_random_features: int = 256
    feature_map: str = "favor++"
    position_encoding: str | None = None
    num_relative_buckets: int = 32
    max_relative_distance: int = 128
    tie_embeddings: bool = True
    pad_id: int = 0
    end_id: int = 1
    start_id: int = 0

    def __post_init__(self):
        check_size(
            vocabulary_size=self.vocabulary_size,
            target_vocabulary_size=self.target_vocabulary_size,
            model_dim=self.model_dim,
            num_encoder_layers=self.num_encoder_layers,
            num_decoder_layers=self.num_decoder_layers,
            num_heads=self.num_heads,
            key_dim=self.key_dim,
            hidden_dim=self.hidden_dim,
            moe_every=self.moe_every,
            num_experts=self.num_experts or None,
        )
        self._check_sparse_blocks()
        check_rate(
            dropout_rate=self.dropout_rate,
            expert_dropout_rate=self.expert_dropout_rate,
            layer_dropout_rate=self.layer_dropout_rate,
        )
        self._check_attention()
        check_choice(ROUTERS, encoder_router=self.encoder_router)
        check_choice(CAUSAL_ROUTERS, decoder_router=self.decoder_router)
        # In an encoder each direction has half of the buckets, and half of
        # these are for single distances: with fewer than 4 there would be none.
        if self.num_relative_buckets < 4:
            raise ValueError(
                "`num_relative_buckets` must be at least 4. Received: "
                f"num_relative_buckets={self.num_relative_buckets}."
            )
        if self.max_relative_distance <= self.num_relative_buckets // 2:
            raise ValueError(
                "`max_relative_distance` must be greater than half of "
                "`num_relative_buckets`. Received: max_relative_distance="
                f"{self.max_relative_distance}, num_relative_buckets="
                f"{self.num_relative_buckets}."
            )
        if self.key_dim is None and self.model_dim % self.num_heads:
            raise ValueError(
                "`model_dim` must be divisible by `num_heads` unless "
                "`key_dim` is given. Received: "
                f"model_dim={self.model_dim}, num_heads={self.num_heads}."
            )
        if self.position_encoding == "rotary" and self.head_dim % 2:
            raise ValueError(
                "Heads must have an even size for rotary positions. Received: "
                f"key_dim={self.head_dim}."
            )
        smallest = min(
            self.vocabulary_size, self.target_vocabulary_size or 1 << 31
        )
        for name in ("pad_id", "end_id", "start_id"):
            if not 0 <= getattr(self, name) < smallest:
                raise ValueError(
                    f"`{name}` must be an id of both vocabularies, in [0, "
                    f"{smallest}). Received: {name}={getattr(self, name)}."
                )
        if self.end_id == self.pad_id:
            raise ValueError(
                "`end_id` must differ from `pad_id`. Received: "
                f"end_id={self.end_id}, pad_id={self.pad_id}."
            )

    def _check_sparse_blocks(self) -> None:
        deepest = max(self.num_encoder_layers, self.num_decoder_layers)
        if self.num_experts and self.moe_every > deepest:
            raise ValueError(
                "`moe_every` must leave a block of the encoder or the decoder "
                "to hold experts; `num_experts=0` makes a dense model. "
                f"Received: moe_every={self.moe_every}, "
                f"num_experts={self.num_experts}, "
                f"num_encoder_layers={self.num_encoder_layers}, "
                f"num_decoder_layers={self.num_decoder_layers}."
            )

    def _check_attention(self) -> None:
        check_choice(ATTENTIONS, attention=self.attention)
        check_choice(FEATURE_MAPS, feature_map=self.feature_map)
        check_size(num_random_features=self.num_random_features)
        by_features = self.attention == "random_feature"
        if self.position_encoding is None:
            default = "rotary" if by_features else "relative_bias"
            object.__setattr__(self, "position_encoding", default)
        check_choice(
            POSITION_ENCODINGS, position_encoding=str(self.position_encoding)
        )
        if by_features and self.position_encoding == "relative_bias":
            raise ValueError(
                "`position_encoding` must be 'rotary' for "
                "attention='random_feature': there are no scores that a "
                "relative bias could be added to. Received: "
                "position_encoding='relative_bias'."
            )

    @property
    def head_dim(self) -> int:
        """Size of each attention head."""
        return self.key_dim or self.model_dim // self.num_heads

    @property
    def output_size(self) -> int:
        """Number of ids that the decoder may emit."""
        return self.target_vocabulary_size or self.vocabulary_size

    def is_sparse(self, block: int) -> bool:
        """Whether block number `block` (from 0) holds experts."""
        return self.num_experts > 0 and (block + 1) % self.moe_every == 0

    def to_dict(self) -> Config:
        """Returns a plain dictionary, fit for JSON."""
        return dataclasses.asdict(self)
