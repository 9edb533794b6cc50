"""A bank of feed-forward networks."""

import math

import keras
from keras import ops

from keras_moe.layers._own_activation import build_activation
from keras_moe.layers._own_activation import own_activation
from keras_moe.layers._own_activation import serialize_activation
from keras_moe.layers.moe._apply_bank import apply_bank
from keras_moe.layers.moe._expert_functions import ExpertFunction
from keras_moe.layers.moe._expert_functions import expert_functions
from keras_moe.layers.moe._expert_initializer import per_expert
from keras_moe.layers.moe._grouped_product import grouped_product
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.serialization import sublayer_dtype
from keras_moe.types import ActivationLike
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import LayoutTable
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_rate
from keras_moe.validation import check_size
from keras_moe.weights._merged_kernel import merged_kernel


@register
class Experts(keras.layers.Layer):
    """Applies expert e's feed-forward network to the slots of expert e.

    The kernels of all experts are stacked, `(num_experts, in, out)`, so that
    one batched product serves all and one axis name shards them.

    Args:
        num_experts: number of experts, E.
        hidden_dim: inner size of each network.
        activation: activation of the inner layer: what Keras takes, or a layer
            such as `keras_moe.layers.TopKActivation`, of which a copy is made.
        gated: whether the activation is multiplied by a second linear layer
            (GLU variants, arXiv:2002.05202).
        use_bias: whether the layers have biases.
        dropout_rate: dropout of the inner layer. Experts see few tokens each,
            and need more of it than the rest of the model (Switch
            Transformers, arXiv:2101.03961, section 2.4).
        kernel_initializer: initialiser of each expert's kernels; fans are
            those of one expert. The default is Switch's: truncated normal,
            scale 0.1.
        bias_initializer: initialiser of the biases.

    Input shape:
        `(groups, num_experts, slots, dim)`.

    Output shape:
        The same.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> experts = keras_moe.layers.Experts(num_experts=4, hidden_dim=32)
    >>> experts(np.zeros((1, 4, 5, 8))).shape
    TensorShape([1, 4, 5, 8])
    """

    # (experts, inputs, outputs). Where inner sizes are split, a device
    # computes its part of each expert's hidden layer, and the second product
    # adds the parts up, as in Megatron (arXiv:1909.08053).
    LAYOUT: LayoutTable = {
        "wi/kernel": ("expert", None, "model"),
        "wi_gate/kernel?": ("expert", None, "model"),
        "wo/kernel": ("expert", "model", None),
    }

    def __init__(
        self,
        num_experts: int,
        hidden_dim: int,
        activation: ActivationLike = "relu",
        gated: bool = False,
        use_bias: bool = False,
        dropout_rate: float = 0.0,
        kernel_initializer: InitializerLike = None,
        bias_initializer: InitializerLike = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(num_experts=num_experts, hidden_dim=hidden_dim)
        check_rate(dropout_rate=dropout_rate)
        self.num_experts = num_experts
        self.hidden_dim = hidden_dim
        self.activation = own_activation(activation, self.dtype_policy)
        self.gated = gated
        self.use_bias = use_bias
        self.dropout_rate = dropout_rate
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.VarianceScaling(
                0.1, mode="fan_in", distribution="truncated_normal"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: Shape) -> None:
        dim = input_shape[-1]
        if input_shape[1] != self.num_experts:
            raise ValueError(
                "The input must have the shape [groups, num_experts, slots, "
                f"dim] with num_experts={self.num_experts}. Received: "
                f"input_shape={tuple(input_shape)}."
            )
        slots = (input_shape[0], self.num_experts, input_shape[2])
        build_activation(self.activation, (None, self.hidden_dim))
        self.inner = self._bank(self.hidden_dim, "wi")
        self.inner.build((*slots, dim))
        if self.gated:
            self.gate = self._bank(self.hidden_dim, "wi_gate")
            self.gate.build((*slots, dim))
        self.dropout = keras.layers.Dropout(
            self.dropout_rate,
            dtype=sublayer_dtype(self, "dropout"),
            name="dropout",
        )
        self.outer = self._bank(dim, "wo")
        self.outer.build((*slots, self.hidden_dim))

    def _bank(self, units: int | None, name: str) -> keras.layers.EinsumDense:
        # g = group, e = expert, c = slot, d = inputs, f = outputs
        return keras.layers.EinsumDense(
            "gecd,edf->gecf",
            output_shape=(self.num_experts, None, units),
            bias_axes="ef" if self.use_bias else None,
            kernel_initializer=per_expert(self.kernel_initializer.clone()),
            bias_initializer=self.bias_initializer.clone(),
            dtype=sublayer_dtype(self, name),
            name=name,
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        shape = ops.shape(inputs)
        # [g, e, c, d] -> [e, g, c, d], or [g1, g2, e, c, d] -> [e, g2, g1, c,
        # d]; reversing is its own inverse. g2, which is sharded over "batch",
        # must lead the axes that `reshape` merges: only the first of them keeps
        # its sharding.
        last = len(shape) - 1
        turned = (*reversed(range(last - 1)), last - 1, last)
        # [e, g, c, d] -> [e, g * c, d]: all slots of an expert in one matrix.
        rows = ops.transpose(inputs, turned)
        across = ops.shape(rows)
        rows = ops.reshape(
            rows, (shape[-3], math.prod(across[1:-1]), shape[-1])
        )
        hidden = self.activation(apply_bank(self.inner, rows))
        if self.gated:
            hidden = hidden * apply_bank(self.gate, rows)
        rows = apply_bank(self.outer, self.dropout(hidden, training=training))
        return ops.transpose(ops.reshape(rows, across), turned)

    @property
    def banks(self) -> list[keras.layers.EinsumDense]:
        """The stacked linear layers of a built layer, inner ones first."""
        gate = [self.gate] if self.gated else []
        return [self.inner, *gate, self.outer]

    @property
    def is_quantized(self) -> bool:
        """Whether the banks are quantised."""
        return any(bank.quantization_mode is not None for bank in self.banks)

    def functions(self, training: bool | None = None) -> list[ExpertFunction]:
        """Returns each expert as a function of its rows `[rows, dim]`.

        Executors without slots need it: each expert then gets as many rows as
        it has tokens. Call it inside the `call` of a layer of the same dtype
        policy, which casts the weights.
        """
        banks = [expert_functions(bank) for bank in self.banks]

        def feed_forward(inner, *gate_and_outer):
            *gate, outer = gate_and_outer

            def apply(rows):
                hidden = self.activation(inner(rows))
                for factor in gate:
                    hidden = hidden * factor(rows)
                return outer(self.dropout(hidden, training=training))

            return apply

        return [feed_forward(*parts) for parts in zip(*banks, strict=True)]

    def apply_to_rows(
        self, rows: Tensor, expert: Tensor, training: bool | None = None
    ) -> Tensor:
        """Returns what each row's own expert makes of it.

        For few rows, on TensorFlow and without XLA. Call it inside the `call`
        of a layer of the same dtype policy, which casts the weights.

        Args:
            rows: `(n, dim)`.
            expert: int32 `(n,)`, each row's expert.
            training: whether to train.
        """
        hidden = self.activation(grouped_product(self.inner, rows, expert))
        if self.gated:
            hidden = hidden * grouped_product(self.gate, rows, expert)
        hidden = self.dropout(hidden, training=training)
        return grouped_product(self.outer, hidden, expert)

    def expert_kernel(self, expert: int) -> dict[str, Tensor]:
        """Returns the kernels of one expert, dequantised and LoRA-merged.

        Args:
            expert: number of the expert.

        Returns:
            Name to float32 `[inputs, outputs]`: `"wi"`, `"wi_gate"` if gated,
            `"wo"`.

        Raises:
            ValueError: if there is no such expert.
        """
        if not 0 <= expert < self.num_experts:
            raise ValueError(
                f"`expert` must be in [0, {self.num_experts}). Received: "
                f"expert={expert}."
            )
        return {b.name: merged_kernel(b)[expert] for b in self.banks}

    def quantize(self, mode: str, **kwargs) -> None:
        """Quantises the banks; `"int8"` works with every executor."""
        for bank in self.banks:
            bank.quantize(mode, **kwargs)

    def enable_lora(self, rank: int, lora_alpha: float | None = None) -> None:
        """Freezes the banks and adds trainable factors of low rank to them.

        One of the two factors is shared by the experts of a bank, as in
        `keras.layers.EinsumDense`. Biases stay trainable.

        Args:
            rank: rank of the factors.
            lora_alpha: their product is scaled by `lora_alpha / rank`; `None`
                for 1.

        Raises:
            ValueError: if `rank` is not a positive integer, or the layer is
                not built or has LoRA already.
        """
        check_size(rank=rank)
        if not self.built:
            raise ValueError(
                "The layer must be built before LoRA is enabled. Received: "
                f"{self.name}, which is not."
            )
        for bank in self.banks:
            bank.enable_lora(rank, lora_alpha=lora_alpha)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "num_experts": self.num_experts,
            "hidden_dim": self.hidden_dim,
            "activation": serialize_activation(self.activation),
            "gated": self.gated,
            "use_bias": self.use_bias,
            "dropout_rate": self.dropout_rate,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
        }
