"""One entrance to all ways of decoding."""

from collections.abc import Callable
from typing import Any
from typing import cast

import keras
from keras import ops

from keras_moe.backend import shapes_must_be_static
from keras_moe.backend import without_traces
from keras_moe.generation._answers import read_max_length
from keras_moe.generation._answers import warn_of_nan
from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._greedy import Greedy
from keras_moe.generation._token_by_token import TokenByToken
from keras_moe.generation.contracts._answering import Answering
from keras_moe.generation.contracts._check_model import check_model
from keras_moe.generation.contracts._decodable import Decodable
from keras_moe.generation.contracts._layerwise_decodable import ExitingDecodable
from keras_moe.generation.contracts._strategy import Strategy
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor
from keras_moe.validation import check_contract
from keras_moe.validation import check_size


def check_combination(
    strategy: Strategy | None, early_exit: EarlyExitPolicy | None
) -> None:
    """Raises `ValueError` unless a strategy and a policy go together."""
    if isinstance(strategy, str):
        raise ValueError(
            "`strategy` must be an object of `keras_moe.generation`: "
            "`Greedy()`, `Sampling(...)`, `BeamSearch(...)` or "
            f"`SelfSpeculative(...)`. Received: strategy={strategy!r}."
        )
    if strategy is not None:
        check_contract(Strategy, strategy=strategy)
    if not isinstance(early_exit, EarlyExitPolicy | None):
        raise ValueError(
            "`early_exit` must be a `keras_moe.generation.EarlyExitPolicy`. "
            f"Received: early_exit={early_exit!r}."
        )
    if early_exit is not None and not isinstance(strategy, TokenByToken | None):
        raise ValueError(
            f"{type(strategy).__name__} runs all layers: `early_exit` must "
            f"be None. Received: early_exit={early_exit}."
        )


def check_decoding(
    model: Decodable | Answering,
    max_length: int,
    strategy: Strategy | None,
    early_exit: EarlyExitPolicy | None,
    advice: str = "",
) -> None:
    """Raises `ValueError` for what `decode` could not do."""
    if max_length is None:
        raise ValueError(
            "`max_length` must be a positive integer. Received: max_length="
            "None."
        )
    check_size(max_length=max_length)
    check_combination(strategy, early_exit)
    if isinstance(model, Answering):
        if strategy is not None or early_exit is not None:
            raise ValueError(
                f"{type(model).__name__} decides by itself how it decodes: "
                "`strategy` and `early_exit` must be None. Received: strategy="
                f"{strategy!r}, early_exit={early_exit!r}."
            )
        return
    contract = Decodable if early_exit is None else ExitingDecodable
    check_model(contract, model, advice)


def check_dense(token_ids: Tensor) -> None:
    """Raises `ValueError` at ragged or sparse sources.

    Before they are converted: TensorFlow's own errors name neither.
    """
    kind = type(token_ids).__name__
    if kind in ("RaggedTensor", "SparseTensor"):
        raise ValueError(
            "`token_ids` must be dense, with padding: `ragged.to_tensor(pad)` "
            f"makes it so. Received: token_ids of type {kind}."
        )


def check_token_ids(token_ids: Tensor) -> None:
    """Raises `ValueError` unless sources are of rank 2."""
    if len(token_ids.shape) != 2:
        raise ValueError(
            "`token_ids` must have the shape (batch, source_length). "
            f"Received: token_ids.shape={tuple(token_ids.shape)}."
        )


def _check_threshold(
    threshold: Tensor | None, early_exit: EarlyExitPolicy | None
) -> None:
    if threshold is not None and early_exit is None:
        raise ValueError(
            "`threshold` must be None without `early_exit`, whose threshold it "
            f"replaces. Received: threshold={threshold!r}."
        )


def decode(
    model: Decodable | Answering,
    token_ids: Tensor,
    max_length: int,
    strategy: Strategy | None = None,
    early_exit: EarlyExitPolicy | None = None,
    threshold: Tensor | None = None,
    static_shapes: bool = False,
) -> dict[str, Tensor]:
    """Encodes sources and decodes answers; leaves the model as it found it.

    Losses and metrics that layers would record go to a scope that is thrown
    away, so that no assignment enters an exported graph.

    Args:
        model: a `keras_moe.generation.Decodable`, such as
            `keras_moe.models.SwitchTransformer`; with `early_exit` a
            `keras_moe.generation.ExitingDecodable`. Or a
            `keras_moe.generation.Answering`, such as a cascade.
        token_ids: int `(batch, source_length)`, padded. A row of padding alone
            has an empty answer.
        max_length: greatest number of tokens to emit.
        strategy: `keras_moe.generation.Greedy` (also for `None`), `Sampling`,
            `BeamSearch`, `SelfSpeculative`, or another
            `keras_moe.generation.Strategy`.
        early_exit: when a token may leave the decoder early; for strategies
            that choose `keras_moe.generation.TokenByToken`.
        threshold: float32 `(batch,)`, instead of the policy's.
        static_shapes: whether shapes must not grow; where XLA compiles
            this, they do not in any case.

    Returns:
        `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and padded;
        `log_probability`, float32 `(batch,)`, the sum over the emitted tokens,
        NaN where the model's logits were not finite and there is no answer (a
        warning says so when eager); and what else the strategy or the policy
        tells: token by token, `token_log_probability`, float32 `(batch,
        max_length)`, 0 for padding.

    Raises:
        ValueError: if the model lacks a method, `max_length` is not positive,
            `token_ids` not of rank 2, the strategy cannot exit early, or there
            is a `threshold` without `early_exit`.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> answer = keras_moe.generation.decode(model, [[5, 6, 7, 1]], 6)
    >>> answer["token_ids"].shape
    TensorShape([1, 6])
    """
    max_length = read_max_length(max_length)
    check_decoding(model, max_length, strategy, early_exit)
    _check_threshold(threshold, early_exit)
    check_dense(token_ids)
    token_ids = ops.convert_to_tensor(token_ids)
    check_token_ids(token_ids)
    # Before the cast, which cuts fractions off and wraps large numbers.
    read_ids(token_ids, None, (model.config.pad_id,), name="token_ids")
    token_ids = ops.cast(token_ids, "int32")
    if isinstance(model, Answering):
        with without_traces():
            return warn_of_nan(model.answer(token_ids, max_length))
    with without_traces():
        memory, memory_mask = model.encode(token_ids, training=False)
    return decode_from(
        model,
        memory,
        memory_mask,
        max_length,
        strategy,
        early_exit,
        threshold,
        static_shapes,
    )


def decode_from(
    model: Decodable,
    memory: Any,
    memory_mask: Tensor,
    max_length: int,
    strategy: Strategy | None = None,
    early_exit: EarlyExitPolicy | None = None,
    threshold: Tensor | None = None,
    static_shapes: bool = False,
) -> dict[str, Tensor]:
    """Decodes answers from a memory that was encoded before.

    One memory serves many decodings, and many decoders that understand it.

    Args:
        model: as for `decode`; nothing is encoded.
        memory: what `model.encode` returned, or what is like it.
        memory_mask: its mask, bool `(batch, memory_length)`, false for padding.
            A row without a memory has an empty answer.
        max_length: as for `decode`.
        strategy: as for `decode`.
        early_exit: as for `decode`.
        threshold: as for `decode`.
        static_shapes: as for `decode`.

    Returns:
        What `decode` does.

    Raises:
        ValueError: as `decode`, or if `memory_mask` is not of rank 2.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> memory, mask = model.encode(tf.constant([[5, 6, 7, 1]]))
    >>> greedy = keras_moe.generation.decode_from(model, memory, mask, 6)
    >>> beams = keras_moe.generation.decode_from(
    ...     model, memory, mask, 6, keras_moe.generation.BeamSearch(3)
    ... )
    >>> beams["token_ids"].shape
    TensorShape([1, 6])
    """
    max_length = read_max_length(max_length)
    check_decoding(model, max_length, strategy, early_exit)
    _check_threshold(threshold, early_exit)
    memory = keras.tree.map_structure(ops.convert_to_tensor, memory)
    memory_mask = ops.cast(ops.convert_to_tensor(memory_mask), "bool")
    if len(memory_mask.shape) != 2:
        raise ValueError(
            "`memory_mask` must have the shape (batch, memory_length). "
            f"Received: memory_mask.shape={tuple(memory_mask.shape)}."
        )
    strategy = strategy or Greedy()
    static_shapes = static_shapes or shapes_must_be_static()
    with without_traces():
        if early_exit is None:
            return warn_of_nan(
                strategy.decode(
                    model, memory, memory_mask, max_length, static_shapes
                )
            )
        # Imported only where it is wanted, since it needs TensorFlow.
        from keras_moe.generation._early_exit_decode import early_exit_decode

        answer = early_exit_decode(
            cast(ExitingDecodable, model),
            memory,
            memory_mask,
            max_length,
            early_exit,
            cast(TokenByToken, strategy),
            threshold,
            static_shapes,
        )
        return warn_of_nan(answer)


def compile_decoder(
    model: Decodable | Answering,
    max_length: int,
    strategy: Strategy | None = None,
    early_exit: EarlyExitPolicy | None = None,
    jit_compile: bool = False,
    input_shape: tuple[int | None, int | None] = (None, None),
) -> Callable[..., dict[str, Tensor]]:
    """Returns `decode` as a compiled function.

    Args:
        model: as for `decode`.
        max_length: as for `decode`.
        strategy: as for `decode`.
        early_exit: as for `decode`.
        jit_compile: whether to compile with XLA, which makes a program for each
            shape of token ids.
        input_shape: of the token ids; `None` for any number.

    Returns:
        A function of token ids, int32 `(batch, source_length)`, and where
        there is a policy of thresholds, float32 `(batch,)`.

    Raises:
        ValueError: as `decode`.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> decoder = keras_moe.generation.compile_decoder(model, max_length=6)
    >>> decoder(tf.constant([[5, 6, 7, 1]]))["token_ids"].shape
    TensorShape([1, 6])
    """
    max_length = read_max_length(max_length)
    check_decoding(model, max_length, strategy, early_exit)

    def decode_ids(
        token_ids: Tensor, threshold: Tensor | None = None
    ) -> dict[str, Tensor]:
        return decode(
            model,
            token_ids,
            max_length,
            strategy,
            early_exit,
            threshold,
        )

    if keras.backend.backend() != "tensorflow":
        return decode_ids
    import tensorflow as tf

    signature = [tf.TensorSpec(input_shape, tf.int32)]
    if early_exit is not None:
        signature.append(tf.TensorSpec(input_shape[:1], tf.float32))
    return tf.function(
        decode_ids,
        input_signature=signature,
        jit_compile=jit_compile,
        autograph=False,
    )
