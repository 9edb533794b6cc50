"""The part of SentencePiece's model format that is read and written here.

The module that SentencePiece brings for it is made for a newer protobuf than
TFX allows, and cannot be imported beside it. Fields that are not named here are
kept when a model is read and written again.

Numbers of fields follow `sentencepiece_model.proto` of SentencePiece 0.2.
"""

from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory

NORMAL, UNKNOWN, USER_DEFINED, BYTE = 1, 2, 4, 6
UNIGRAM = 1

_PACKAGE = "keras_moe_sentencepiece"
# Of fields that a file need not have.
_DEFAULTS = {"type": "1", "bos_id": "1", "eos_id": "2", "pad_id": "-1"}
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Piece": {
        "piece": (1, "string"),
        "score": (2, "float"),
        "type": (3, "int32"),
    },
    "Trainer": {
        "model_type": (3, "int32"),
        "byte_fallback": (35, "bool"),
        "unk_id": (40, "int32"),
        "bos_id": (41, "int32"),
        "eos_id": (42, "int32"),
        "pad_id": (43, "int32"),
    },
    "Normalizer": {
        "precompiled_charsmap": (2, "bytes"),
        "add_dummy_prefix": (3, "bool"),
        "remove_extra_whitespaces": (4, "bool"),
    },
    "Model": {
        "pieces": (1, "Piece"),
        "trainer_spec": (2, "Trainer"),
        "normalizer_spec": (3, "Normalizer"),
    },
}


def _make() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_moe/sentencepiece.proto", package=_PACKAGE, syntax="proto2"
    )
    for message, fields in _FIELDS.items():
        made = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            field = made.field.add(
                name=name, number=number, label=kinds.LABEL_OPTIONAL
            )
            if kind in _FIELDS:
                field.type = kinds.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if name in _DEFAULTS:
                field.default_value = _DEFAULTS[name]
            if name == "pieces":
                field.label = kinds.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.Model")
    return message_factory.GetMessageClass(found)


ModelProto: Any = _make()
