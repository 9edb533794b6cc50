"""A unigram `tokenizer.json` as a SentencePiece model."""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_moe.conversion.checkpoints._sentencepiece_proto import BYTE
from keras_moe.conversion.checkpoints._sentencepiece_proto import UNIGRAM
from keras_moe.conversion.checkpoints._sentencepiece_proto import UNKNOWN
from keras_moe.conversion.checkpoints._sentencepiece_proto import USER_DEFINED
from keras_moe.conversion.checkpoints._sentencepiece_proto import ModelProto

# What `tokenizers` takes for a space before it looks for pieces.
_SPACES = r"[\s\pZ\x{85}]+"


@dataclasses.dataclass(frozen=True)
class UnigramFile:
    """What a `tokenizer.json` amounts to.

    Attributes:
        model: a SentencePiece model, serialized.
        end: the piece that is appended to each text, if any.
        splits_at: what counts as a space besides what the normaliser says.
        marks: pieces that are found in texts before anything else is.
    """

    model: bytes
    end: str | None
    splits_at: str | None
    marks: tuple[str, ...]


def read_tokenizer_json(given: Mapping[str, Any]) -> UnigramFile:
    """Reads what `tokenizers` writes for a unigram model.

    Args:
        given: what the file holds.

    Raises:
        ValueError: for what SentencePiece has not, by name.
    """
    unigram = given.get("model")
    kind = unigram.get("type") if isinstance(unigram, dict) else None
    if not isinstance(unigram, dict) or kind != "Unigram":
        raise ValueError(
            "`tokenizer.json` must hold a unigram model. Received: "
            f"type={kind!r}."
        )
    proto = ModelProto()
    proto.trainer_spec.model_type = UNIGRAM
    proto.trainer_spec.byte_fallback = bool(unigram.get("byte_fallback"))
    _add_pieces(proto, unigram, given.get("added_tokens") or [])
    proto.normalizer_spec.precompiled_charsmap = _charsmap(given)
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = True
    marks = [p.piece for p in proto.pieces if p.type == USER_DEFINED]
    return UnigramFile(
        proto.SerializeToString(), _end(given), _splits_at(given), tuple(marks)
    )


def _add_pieces(
    proto: Any, unigram: Mapping[str, Any], added: list[Mapping[str, Any]]
) -> None:
    vocabulary = [
        (str(piece), float(score)) for piece, score in unigram["vocab"]
    ]
    # Added tokens are found in texts before anything else is, and those
    # beyond the vocabulary extend it.
    marked = {token["content"]: token["id"] for token in added}
    names = [piece for piece, _ in vocabulary]
    for content, number in sorted(marked.items(), key=lambda item: item[1]):
        if number == len(vocabulary):
            vocabulary.append((content, 0.0))
            names.append(content)
        elif number > len(vocabulary) or names[number] != content:
            raise ValueError(
                "`added_tokens` must continue the vocabulary, or be of it. "
                f"Received: {content!r} with id {number}."
            )
    unknown = unigram.get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(vocabulary):
        raise ValueError(
            "`unk_id` must be an id of the vocabulary. Received: "
            f"unk_id={unknown!r}."
        )
    for number, (piece, score) in enumerate(vocabulary):
        made = proto.pieces.add(piece=piece, score=score)
        if number == unknown:
            made.type = UNKNOWN
        elif piece in marked:
            made.type = USER_DEFINED
        elif unigram.get("byte_fallback") and _is_byte(piece):
            made.type = BYTE
    proto.trainer_spec.unk_id = unknown
    for field in ("bos_id", "eos_id", "pad_id"):
        setattr(proto.trainer_spec, field, -1)


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _steps(given: Any, inner: str) -> list[Mapping[str, Any]]:
    """Returns the steps of a part of the file, a sequence or one alone."""
    if given is None:
        return []
    return given[inner] if given["type"] == "Sequence" else [given]


def _charsmap(given: Mapping[str, Any]) -> bytes:
    """Returns the normaliser's table; refuses other normalisers."""
    found = b""
    for step in _steps(given.get("normalizer"), "normalizers"):
        if step["type"] == "Precompiled" and not found:
            found = base64.b64decode(step["precompiled_charsmap"])
        elif step["type"] not in ("Strip", "Replace"):
            raise ValueError(
                "`normalizer` must be one of SentencePiece. Received: "
                f"{step['type']}."
            )
        elif step["type"] == "Replace" and not _joins_spaces(step):
            raise ValueError(
                "`normalizer` must replace nothing but several spaces. "
                f"Received: {step['pattern']}."
            )
    return found


def _joins_spaces(step: Mapping[str, Any]) -> bool:
    return step["pattern"] == {"Regex": " {2,}"} and step["content"] in "▁ "


def _splits_at(given: Mapping[str, Any]) -> str | None:
    """Makes sure that texts are split at spaces, each before its word."""
    steps = _steps(given.get("pre_tokenizer"), "pretokenizers")
    kinds = [step["type"] for step in steps]
    last = steps[-1] if steps else {}
    prepends = last.get("prepend_scheme", "always") == "always"
    splits = kinds == ["WhitespaceSplit", "Metaspace"]
    normalizers = _steps(given.get("normalizer"), "normalizers")
    joins = any(map(_joins_spaces, (s for s in normalizers if "content" in s)))
    strips = any(step.get("strip_right") for step in normalizers)
    joined = kinds == ["Metaspace"] and joins and strips
    if not (prepends and (splits or joined)):
        raise ValueError(
            "`pre_tokenizer` must be `Metaspace`, which prepends always, after "
            "`WhitespaceSplit` or a normaliser that joins and strips spaces. "
            f"Received: {given.get('pre_tokenizer')}."
        )
    return _SPACES if splits else None


def _end(given: Mapping[str, Any]) -> str | None:
    """Returns the piece that the post-processor appends."""
    processor = given.get("post_processor")
    if processor is None:
        return None
    template = processor.get("single", [])
    kinds = [next(iter(part)) for part in template]
    if kinds == ["Sequence"]:
        return None
    if kinds == ["Sequence", "SpecialToken"]:
        return template[1]["SpecialToken"]["id"]
    raise ValueError(
        "`post_processor` must append one token, or none. Received: "
        f"{processor.get('type')} {template}."
    )
