"""What makes a model that is decoded one that generates."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any
from typing import Literal
from typing import cast

import keras
from keras import ops

from keras_moe.backend import accelerator
from keras_moe.backend import shapes_must_be_static
from keras_moe.generation._answers import read_max_length
from keras_moe.generation._answers import warn_of_nan
from keras_moe.generation._decode import check_decoding
from keras_moe.generation._decode import check_dense
from keras_moe.generation._decode import check_token_ids
from keras_moe.generation._decode import compile_decoder
from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation._padded_ids import padded_ids
from keras_moe.generation.contracts._strategy import Strategy
from keras_moe.ops._token_ids import read_ids
from keras_moe.types import Tensor

# Greatest number of compiled programs that a model keeps; each holds its graph.
_PROGRAMS = 32


class Generating:
    """Gives `generate` to a model that `keras_moe.generation.decode` takes.

    Attributes:
        config: ids and sizes, a `keras_moe.generation.SequenceConfig` with
            `vocabulary_size`.
        variables: of the model.
        ignores_padding: whether an answer does not depend on how far its source
            is padded.
    """

    config: Any
    variables: list

    @property
    def ignores_padding(self) -> bool:
        return True

    def generate(
        self,
        token_ids: Tensor,
        max_length: int = 64,
        early_exit: EarlyExitPolicy | None = None,
        strategy: Strategy | None = None,
        jit_compile: bool | Literal["auto"] = "auto",
    ) -> dict[str, Tensor]:
        """Decodes sources, with a program that is compiled once and kept.

        One row has a program of its own, which need not part rows by expert.

        Args:
            token_ids: int `(batch, source_length)`, padded.
            max_length: greatest number of tokens to emit.
            early_exit: when a token may leave the decoder early; `None` for
                never. Policies that differ in their threshold share a
                compiled program.
            strategy: `keras_moe.generation.Greedy()`, the default,
                `Sampling(...)`, `BeamSearch(...)`, `SelfSpeculative(...)`, or
                another `keras_moe.generation.Strategy`.
            jit_compile: whether to compile with XLA, which takes seconds for
                each shape: `token_ids` are padded to a power of two of rows and
                positions, at least 8, so that there are few. `"auto"` compiles
                where there is an accelerator.

        Returns:
            `token_ids`, int32 `(batch, max_length)`, ended by `end_id` and
            padded; `log_probability`, float32 `(batch,)`, the sum over the
            emitted tokens; of strategies that choose token by token
            `token_log_probability`, float32 `(batch, max_length)`, 0 for
            padding. With `early_exit` also `exit_layer`, int32 `(batch,
            max_length)`, and `confidence`, float32 of that shape.

        Raises:
            ValueError: if `max_length` is not positive, `token_ids` not of
                rank 2 or outside the vocabulary, the strategy cannot exit
                early or is not hashable, or `jit_compile` unknown.
        """
        max_length = read_max_length(max_length)
        check_decoding(cast(Any, self), max_length, strategy, early_exit)
        check_dense(token_ids)
        token_ids = ops.convert_to_tensor(token_ids)
        check_token_ids(token_ids)
        # The compiled program could not raise, and a cast would cut fractions
        # off and wrap large numbers.
        read_ids(token_ids, self.config.vocabulary_size, name="token_ids")
        token_ids = ops.cast(token_ids, "int32")
        _check_hashable(strategy)
        jit_compile = _use_xla(jit_compile)
        rows = ops.shape(token_ids)[0]
        # Within a graph the number of rows may be unknown.
        alone = token_ids.shape[0] == 1
        shape: tuple[int | None, int | None] = (1 if alone else None, None)
        if jit_compile:
            token_ids = padded_ids(
                token_ids, self.config.pad_id, self.ignores_padding
            )
            shape = tuple(token_ids.shape)
        inputs, policy = [token_ids], None
        if early_exit is not None:
            policy = dataclasses.replace(early_exit, threshold=1.0)
            inputs.append(
                ops.full(
                    ops.shape(token_ids)[:1],
                    early_exit.threshold,
                    dtype="float32",
                )
            )
        # Quantising and LoRA put other variables in their places: a program
        # compiled before would go on with the old ones. And one that was traced
        # within a graph for XLA does not run without, nor the other way.
        weights = tuple(id(variable) for variable in self.variables)
        decode = self._decoder_for(
            (shapes_must_be_static(), *weights),
            max_length,
            strategy,
            policy,
            jit_compile,
            shape,
        )
        answer = decode(*inputs)
        if not jit_compile:
            return answer
        return {name: value[:rows] for name, value in answer.items()}

    @functools.cached_property
    def _decoder_for(self) -> Callable[..., Callable]:
        @functools.lru_cache(maxsize=_PROGRAMS)
        def compiled(traced_for: tuple, *options: Any) -> Callable:
            del traced_for  # part of the key: a program holds its variables
            program = compile_decoder(cast(Any, self), *options)
            return lambda *inputs: warn_of_nan(program(*inputs))

        # A dictionary would be tracked by Keras, and exports of the model would
        # fail on it.
        return compiled


def _use_xla(jit_compile: bool | str) -> bool:
    if jit_compile not in (True, False, "auto"):
        raise ValueError(
            "`jit_compile` must be True, False or 'auto'. Received: "
            f"jit_compile={jit_compile!r}."
        )
    if keras.backend.backend() != "tensorflow":
        return False
    if jit_compile == "auto":
        return accelerator() != "CPU"
    return bool(jit_compile)


def _check_hashable(strategy: Strategy | None) -> None:
    try:
        hash(strategy)
    except TypeError as error:
        raise ValueError(
            "`strategy` must be hashable, since a compiled program is kept for "
            "each: a frozen dataclass is. Received: "
            f"strategy={strategy!r}."
        ) from error
