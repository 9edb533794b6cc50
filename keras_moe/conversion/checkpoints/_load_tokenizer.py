"""The tokeniser of a checkpoint, for the served graph."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from keras_moe.conversion.checkpoints._sentencepiece_proto import USER_DEFINED
from keras_moe.conversion.checkpoints._sentencepiece_proto import ModelProto
from keras_moe.conversion.checkpoints._sentencepiece_tokenizer import (
    SentencePieceTokenizer,
)
from keras_moe.conversion.checkpoints._tokenizer_json import read_tokenizer_json

_PIECES = ("spiece.model", "sentencepiece.model", "tokenizer.model")
_EXTRA = "<extra_id_{}>"


def load_tokenizer(directory: str | os.PathLike) -> SentencePieceTokenizer:
    """Loads the vocabulary of a checkpoint of T5 or Switch Transformers.

    Reads `tokenizer.json`, a unigram model, as Hugging Face's `tokenizers`
    does, or `spiece.model` as SentencePiece does. Ids are those of the
    original; T5's sentinels, `<extra_id_0>` and so on, are found in texts. (One
    text differs: `tokenizers` finds the unknown token where it is spelt out,
    `<unk>`.)

    Args:
        directory: of the checkpoint.

    Returns:
        A tokeniser whose methods are `tokenize` and `detokenize` of
        `keras_moe.serving.export`.

    Raises:
        ValueError: if there is no such file, or it has what SentencePiece has
            not.
        ImportError: without `tensorflow-text`.

    Example:

    >>> try:
    ...     keras_moe.conversion.load_tokenizer("none")
    ... except ValueError as error:
    ...     print(error)
    `directory` must hold tokenizer.json or spiece.model. Received: none.
    """
    folder = pathlib.Path(directory)
    path = folder / "tokenizer.json"
    if path.exists():
        return _from_json(_read_json(path), _settings(folder))
    for name in _PIECES:
        if (folder / name).exists():
            return _from_pieces(folder / name, _settings(folder))
    raise ValueError(
        "`directory` must hold tokenizer.json or spiece.model. Received: "
        f"{folder}."
    )


def _from_json(
    given: Mapping[str, Any], ids: Mapping[str, int]
) -> SentencePieceTokenizer:
    found = read_tokenizer_json(given)
    end_id = ids["end_id"]
    if found.end is not None:
        end_id = _id_of(given, found.end)
    return SentencePieceTokenizer(
        found.model,
        pad_id=ids["pad_id"],
        end_id=end_id,
        adds_end=found.end is not None,
        splits_at=found.splits_at,
        marks=found.marks,
    )


def _id_of(given: Mapping[str, Any], piece: str) -> int:
    names = [name for name, _ in given["model"]["vocab"]]
    added = {t["content"]: t["id"] for t in given.get("added_tokens") or []}
    return added[piece] if piece in added else names.index(piece)


def _from_pieces(
    path: pathlib.Path, ids: Mapping[str, int]
) -> SentencePieceTokenizer:
    proto = ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(
            f"`{path.name}` must be a SentencePiece model. Received: {error}."
        ) from error
    known = {piece.piece for piece in proto.pieces}
    # T5 counts its sentinels backwards from the end of the vocabulary.
    marks = [_EXTRA.format(n) for n in reversed(range(ids["extra_ids"]))]
    for mark in marks:
        if mark not in known:
            proto.pieces.add(piece=mark, score=0.0, type=USER_DEFINED)
    return SentencePieceTokenizer(
        proto.SerializeToString(),
        pad_id=ids["pad_id"],
        end_id=ids["end_id"],
        marks=tuple(marks),
    )


def _settings(folder: pathlib.Path) -> dict[str, int]:
    """Returns the ids and the number of sentinels that the files name."""
    config = _read_json(folder / "config.json")
    tokens = _read_json(folder / "tokenizer_config.json")
    extra = tokens.get("extra_ids", 100 if config else 0)
    return {
        "pad_id": _number(config, "pad_token_id", 0),
        "end_id": _number(config, "eos_token_id", 1),
        "extra_ids": extra,
    }


def _number(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    return value if isinstance(value, int) else default


def _read_json(path: pathlib.Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        given = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`{path.name}` must be JSON. Received: {error}."
        ) from error
    if not isinstance(given, dict):
        raise ValueError(
            f"`{path.name}` must hold an object. Received: "
            f"{type(given).__name__}."
        )
    return given
