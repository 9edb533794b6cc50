"""The functions behind the signatures of a model that answers text."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import decode
from keras_moe.serving.exporting._check_endpoints import Endpoint
from keras_moe.serving.exporting._compiled_shapes import COMPILED_IDS
from keras_moe.serving.exporting._compiled_shapes import CompiledShapes

TokenizeFn = Callable[[tf.Tensor], dict[str, tf.Tensor]]
DetokenizeFn = Callable[[tf.Tensor], tf.Tensor]


TOKEN_SCORES = "token_log_probability"


class TextEndpoints:
    """Answers strings, examples, and strings with thresholds, in a graph.

    Args:
        model: decodes.
        tokenize: from strings to a dictionary with `encoder_token_ids`.
        detokenize: from token ids to strings.
        max_length: greatest number of tokens of an answer.
        input_name: name of the strings, and of the feature of an example.
        output_name: name of the answer.
        example_spec: of the features of an example.
        early_exit: when a token may leave the decoder early; `None` for never.
        least_threshold: lower ones of requests are raised to it; `None` lets
            all pass.
        compiled: decodes by programs of XLA; `None` for no such signatures.
    """

    def __init__(
        self,
        model: keras.Model,
        tokenize: TokenizeFn,
        detokenize: DetokenizeFn,
        max_length: int,
        input_name: str,
        output_name: str,
        example_spec: dict[str, Any],
        early_exit: EarlyExitPolicy | None = None,
        least_threshold: float | None = None,
        compiled: CompiledShapes | None = None,
    ):
        self._model = model
        self._tokenize = tokenize
        self._detokenize = detokenize
        self._max_length = max_length
        self._input_name = input_name
        self._output_name = output_name
        self._example_spec = example_spec
        self._early_exit = early_exit
        self._least_threshold = least_threshold
        self._compiled = compiled
        # One graph behind all signatures: with one for each, an export takes
        # half as long again, and loading it thrice as long.
        self._answer = tf.function(self._read_decode_word, autograph=False)

    def endpoints(self) -> dict[str, Endpoint]:
        """Gives the signatures, for `export_endpoints`."""
        texts = tf.TensorSpec([None], tf.string, name=self._input_name)
        examples = tf.TensorSpec([None], tf.string, name="examples")
        threshold = tf.TensorSpec([None], tf.float32, name="threshold")
        endpoints: dict[str, Endpoint] = {
            "serving_default": (self.answer, [texts]),
            "examples": (self.answer_examples, [examples]),
        }
        if self._early_exit is not None:
            endpoints["with_threshold"] = (
                self.answer_with_threshold,
                [texts, threshold],
            )
        if self._compiled is not None:
            endpoints |= self._compiled_endpoints(self._compiled, texts)
        return endpoints

    def answer(
        self, texts: tf.Tensor, threshold: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Answers strings `[batch]`, at given thresholds or the policy's."""
        if threshold is None and self._early_exit is not None:
            threshold = tf.fill(tf.shape(texts), self._early_exit.threshold)
        return self._answer(texts, threshold)

    def _read_decode_word(
        self, texts: tf.Tensor, threshold: tf.Tensor | None
    ) -> dict[str, tf.Tensor]:
        ids, features = self._read(texts)
        decoded = decode(
            self._model,
            ids,
            self._max_length,
            early_exit=self._early_exit,
            threshold=threshold,
        )
        return self._word(decoded, features)

    def _compiled_endpoints(
        self, compiled: CompiledShapes, texts: tf.TensorSpec
    ) -> dict[str, Endpoint]:
        def answer(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            ids, features = self._read(texts)
            return self._word(compiled.decode(ids), features)

        def answer_ids(token_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._word(compiled.decode(token_ids), {})

        ids = tf.TensorSpec([None, None], tf.int32, name="token_ids")
        return {
            "compiled": (answer, [texts]),
            COMPILED_IDS: (answer_ids, [ids]),
        }

    def _read(self, texts: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        features = _check_features(
            _run("tokenize", self._tokenize, texts), texts
        )
        ids = tf.cast(features.pop("encoder_token_ids"), tf.int32)
        return ids, features

    def _word(
        self, decoded: dict[str, tf.Tensor], features: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Returns the outputs of a signature, the answer's text among them."""
        ids = decoded["token_ids"]
        # A number for each token, which nobody reads, would be half the answer.
        decoded = {k: v for k, v in decoded.items() if k != TOKEN_SCORES}
        strings = _run("detokenize", self._detokenize, ids)
        answer = {self._output_name: _check_strings(strings, ids)}
        for name, value in (*decoded.items(), *features.items()):
            # The answer, or its token ids, would be lost in silence.
            if name in answer:
                raise ValueError(
                    "`output_name`, what `tokenize` returns and the outputs "
                    f"{', '.join(map(repr, decoded))} must have names that "
                    f"differ. Received: {name!r} twice."
                )
            answer[name] = value
        return answer

    def answer_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers serialized `tf.train.Example`s `[batch]`."""
        parsed = tf.io.parse_example(examples, self._example_spec)
        return self.answer(tf.reshape(parsed[self._input_name], [-1]))

    def answer_with_threshold(
        self, texts: tf.Tensor, threshold: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Answers strings with a threshold for each, or one for all."""
        threshold = tf.broadcast_to(threshold, tf.shape(texts))
        if self._least_threshold is not None:
            unknown = tf.math.is_nan(threshold)
            threshold = tf.maximum(threshold, self._least_threshold)
            threshold = tf.where(unknown, float("inf"), threshold)
        return self.answer(texts, threshold)


def _run(name: str, function: Callable[..., Any], value: tf.Tensor) -> Any:
    """Calls a function of the user within a graph, which becomes a part of it.

    TensorFlow's own errors would name neither the function nor the reason.
    """
    try:
        return function(value)
    except (AttributeError, NotImplementedError, TypeError) as error:
        said = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"`{name}` must be made of TensorFlow's operations, such as those "
            "of `tf.strings`: it becomes a part of the graph, where Python's "
            f"functions cannot look into its argument. Received: "
            f"{type(error).__name__}: {said[0]:.200}"
        ) from error


def _check_features(features: Any, texts: tf.Tensor) -> dict[str, tf.Tensor]:
    if not isinstance(features, dict) or "encoder_token_ids" not in features:
        raise ValueError(
            "`tokenize` must return a dictionary with `encoder_token_ids`. "
            f"Received: {features!r}."
        )
    ids = features["encoder_token_ids"]
    if not isinstance(ids, tf.RaggedTensor):
        ids = tf.convert_to_tensor(ids)
        if not ids.dtype.is_integer or not _has_rows_of(ids, texts, 2):
            raise ValueError(
                "`tokenize` must return `encoder_token_ids` as integers "
                "(batch, length), a row for each string. Received: "
                f"{ids.dtype.name} {ids.shape}."
            )
    return {**features, "encoder_token_ids": ids}


def _check_strings(strings: Any, texts: tf.Tensor) -> tf.Tensor:
    # One answer for all rows would be taken for the answer of each.
    if not isinstance(strings, tf.RaggedTensor):
        strings = tf.convert_to_tensor(strings)
    if strings.dtype != tf.string or not _has_rows_of(strings, texts, 1):
        raise ValueError(
            "`detokenize` must return strings (batch,), one for each row of "
            f"its token ids. Received: {strings.dtype.name} {strings.shape}."
        )
    return strings


def _has_rows_of(value: tf.Tensor, texts: tf.Tensor, rank: int) -> bool:
    """Returns whether a value has an entry for each text, as far as known.

    In a graph the number of texts is not known: what knows its own number has
    another.
    """
    if value.shape.rank is None:
        return True
    return value.shape.rank == rank and value.shape[0] in (
        None,
        texts.shape[0],
    )
