"""A signature of a SavedModel, ready to check requests against."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol import _tensor_codec as tensor_codec

_INIT_OP = "__saved_model_init_op"
_MAX_DEFAULT_BYTES = 64 << 20


class TensorDescription(NamedTuple):
    """The description of one tensor in a signature.

    Attributes:
        tensor_name: name in the graph, such as `"serving_default_word:0"`.
        dtype: NumPy dtype; `object` for strings.
        dtype_name: TensorFlow's name for it.
        shape: sizes, `-1` where any will do; `None` for any rank.
    """

    tensor_name: str
    dtype: np.dtype
    dtype_name: str
    shape: tuple[int, ...] | None

    @classmethod
    def from_info(cls, info: meta_graph_pb2.TensorInfo) -> "TensorDescription":
        """Reads the description that a SavedModel stores."""
        dtype = tf.as_dtype(info.dtype)
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(dim.size for dim in info.tensor_shape.dim)
        return cls(info.name, np.dtype(dtype.as_numpy_dtype), dtype.name, shape)

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Tells whether an array of this shape may be fed."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            expected in (-1, size)
            for expected, size in zip(self.shape, shape, strict=True)
        )


class Signature:
    """Named inputs and outputs of one entry point of a SavedModel.

    All that can be prepared is prepared here, once a model rather than once a
    request.

    Args:
        name: key of the signature, such as `"serving_default"`.
        definition: as stored in the SavedModel.

    Attributes:
        name: key of the signature.
        inputs: input name to `TensorDescription`, sorted by name.
        outputs: output name to `TensorDescription`, sorted by name.
        defaults: input name to the array that stands in where a request gives
            none.
        has_rows: whether all of them have a row for each example, and outputs
            no other size that is unknown: requests can then be joined.
    """

    def __init__(self, name: str, definition: meta_graph_pb2.SignatureDef):
        self.name = name
        self.inputs = _specs(definition.inputs)
        self.outputs = _specs(definition.outputs)
        self.defaults = {
            name: tensor_codec.to_array(name, proto, _MAX_DEFAULT_BYTES)
            for name, proto in definition.defaults.items()
        }
        specs = [*self.inputs.values(), *self.outputs.values()]
        self.has_rows = (
            bool(self.inputs)
            and all((spec.shape or ())[:1] == (-1,) for spec in specs)
            and not any(
                -1 in (spec.shape or ())[1:] for spec in self.outputs.values()
            )
        )

    def complete(
        self, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Adds the defaults of inputs that are not given, and checks them all.

        Raises:
            tf.errors.InvalidArgumentError: they may not be fed.
        """
        given = {**self.defaults, **arrays}
        self.check(given)
        return given

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises `InvalidArgumentError` unless `arrays` may be fed."""
        if arrays.keys() != self.inputs.keys():
            missing = sorted(self.inputs.keys() - arrays.keys())
            extra = sorted(arrays.keys() - self.inputs.keys())
            raise status_codes.invalid_argument(
                f'Signature "{self.name}" takes the inputs '
                f"{{{','.join(self.inputs)}}}. "
                f"Sent extra: {{{','.join(extra)}}}. "
                f"Missing but required: {{{','.join(missing)}}}."
            )
        for name, spec in self.inputs.items():
            array = arrays[name]
            if array.dtype != spec.dtype:
                raise status_codes.invalid_argument(
                    f'Expected input "{name}" of signature "{self.name}" to '
                    f"be {spec.dtype_name} but got {_dtype_name(array)}."
                )
            if not spec.accepts_shape(array.shape):
                raise status_codes.invalid_argument(
                    f'Expected input "{name}" of signature "{self.name}" to '
                    f"have shape {_shape_text(spec.shape)} but got shape "
                    f"{list(array.shape)}."
                )

    def check_rows(
        self, name: str, shape: Sequence[int], max_rows: int
    ) -> None:
        """Raises `InvalidArgumentError` where an input has too many rows.

        To be asked before the input is built: a few bytes can name a shape
        that takes seconds to run.

        Args:
            name: of the input.
            shape: that it is to have.
            max_rows: most examples that a request may hold.
        """
        spec = self.inputs.get(name)
        has_rows = spec and (spec.shape is None or spec.shape[:1] == (-1,))
        if has_rows and shape and shape[0] > max_rows:
            raise status_codes.invalid_argument(
                f'Input "{name}" must have at most {max_rows} rows '
                f"(`max_request_rows`). Received: {shape[0]} rows"
            )

    def select_outputs(self, output_filter: Iterable[str]) -> tuple[str, ...]:
        """Gives the outputs to fetch: those asked for, or all of them."""
        names = tuple(output_filter)
        for name in names:
            if name not in self.outputs:
                raise status_codes.invalid_argument(
                    f"output tensor alias not found in signature: {name} "
                    "Outputs expected to be in the set "
                    f"{{{','.join(self.outputs)}}}."
                )
            if names.count(name) > 1:
                raise status_codes.invalid_argument(
                    f"duplicate output tensor alias: {name}"
                )
        return names or tuple(self.outputs)


def read_signatures(
    definitions: Mapping[str, meta_graph_pb2.SignatureDef],
) -> dict[str, Signature]:
    """Reads the entry points of a SavedModel that a request may name."""
    return {
        name: Signature(name, definition)
        for name, definition in definitions.items()
        # `_INIT_OP` is the loader's own entry, whose "output" is an operation.
        if name != _INIT_OP
    }


def to_signature_map(
    definitions: Mapping[str, meta_graph_pb2.SignatureDef],
) -> get_model_metadata_pb2.SignatureDefMap:
    """Writes signatures as the message that `GetModelMetadata` carries."""
    message = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in definitions.items():
        message.signature_def[name].CopyFrom(definition)
    return message


def _specs(
    infos: Mapping[str, meta_graph_pb2.TensorInfo],
) -> dict[str, TensorDescription]:
    return {
        name: TensorDescription.from_info(infos[name]) for name in sorted(infos)
    }


def _dtype_name(array: np.ndarray) -> str:
    return "string" if array.dtype.kind == "O" else array.dtype.name


def _shape_text(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "of any rank"
    sizes = ("None" if size == -1 else str(size) for size in shape)
    return f"[{', '.join(sizes)}]"
