"""The tokeniser of a checkpoint, for the served graph."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from keras_moe.conversion.checkpoints._sentencepiece_proto import NORMAL
from keras_moe.conversion.checkpoints._sentencepiece_proto import UNKNOWN
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
    `<unk>`.) Truncation and padding in the file are not applied, as
    `transformers` does not apply them.

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
    end_id = ids.get("end_id", 1)
    if found.end is not None:
        end_id = _id_of(given, found.end)
    return SentencePieceTokenizer(
        found.model,
        pad_id=ids.get("pad_id", 0),
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
    if not proto.pieces:
        raise ValueError(
            f"`{path.name}` must be a SentencePiece model. Received: no pieces."
        )
    trained = proto.trainer_spec
    ids = {"pad_id": trained.pad_id, "end_id": trained.eos_id, **ids}
    for name in ("pad_id", "end_id"):
        _check_own(name, ids[name], proto.pieces, path.name)
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


def _check_own(name: str, number: int, pieces: Any, file: str) -> None:
    """Refuses a piece that stands for text where one of no text is needed."""
    kind = pieces[number].type if 0 <= number < len(pieces) else NORMAL
    if kind in (NORMAL, UNKNOWN):
        raise ValueError(
            f"`{file}` must have a piece of no text for `{name}`: train it "
            "with pad_id=0, eos_id=1, unk_id=2, bos_id=-1, as T5 is. Received: "
            f"{name}={number}."
        )


def _settings(folder: pathlib.Path) -> dict[str, int]:
    """Returns the ids and the number of sentinels that the files name."""
    config = _read_json(folder / "config.json")
    tokens = _read_json(folder / "tokenizer_config.json")
    found = {"extra_ids": tokens.get("extra_ids", 100 if config else 0)}
    for ours, theirs in (
        ("pad_id", "pad_token_id"),
        ("end_id", "eos_token_id"),
    ):
        if isinstance(config.get(theirs), int):
            found[ours] = config[theirs]
    return found


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
