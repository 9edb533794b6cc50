"""Ids in the graph are those of the original tokenisers."""

import base64
import io
import json
import pathlib
import re

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from keras_moe import conversion
from keras_moe import serving
from keras_moe.conversion.checkpoints._sentencepiece_proto import ModelProto
from keras_moe.models import SwitchTransformer

ROOT = pathlib.Path(__file__).parents[3]
# Words beyond the vocabulary, of other scripts, in other forms; spaces of all
# kinds; signs that look like control symbols.
HARD = [
    "",
    "   ",
    "one  two   three ",
    " leading",
    "tab\tand\nnewline\u00a0hard\u3000wide",
    "\ufb01ne \u2460 \uff21\uff22 e\u0301",
    "日本語 и русский 🙂🙃",
    "▁ meta ▁sign",
    "<s> </s> <pad> <unk> <0x41>",
]


@pytest.fixture(scope="module")
def sentences():
    text = (ROOT / "docs" / "traps.md").read_text()
    return [s.replace("\n", " ") for s in re.split(r"(?<=[.:])\s", text) if s]


def train(sentences, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=500,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, **options},
    )
    return model.getvalue()


MODELS = {
    "t5": {},
    "byte fallback": {"byte_fallback": True},
    "no normaliser": {"normalization_rule_name": "identity"},
    "symbols": {
        "user_defined_symbols": ["<mark>", "::"],
        "control_symbols": ["<control>"],
    },
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, sentences):
    return train(sentences, **MODELS[request.param])


def expected(model, texts):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [[*processor.encode(text), 1] for text in texts]


def ids_of(tokenizer, texts):
    ids = tokenizer.tokenize(texts)["encoder_token_ids"].numpy()
    return [
        [*(i for i in row[: np.flatnonzero(row == 1)[0]]), 1] for row in ids
    ]


def test_ids_are_those_of_sentencepiece(model, sentences, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model)
    tokenizer = conversion.load_tokenizer(tmp_path)
    texts = [*sentences, *HARD, "a<mark>b <control> ::"]
    assert ids_of(tokenizer, texts) == expected(model, texts)


def to_json(model, end=True):
    """What `tokenizers` makes of a SentencePiece model of T5."""
    proto = ModelProto.FromString(model)
    table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap)
    template = [{"Sequence": {"id": "A", "type_id": 0}}]
    if end:
        template.append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    return {
        "added_tokens": [
            {"id": 500, "content": "<extra_id_0>", "special": True}
        ],
        "normalizer": {
            "type": "Precompiled",
            "precompiled_charsmap": table.decode(),
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": "always",
                },
            ],
        },
        "post_processor": {"type": "TemplateProcessing", "single": template},
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [[p.piece, p.score] for p in proto.pieces],
            "byte_fallback": proto.trainer_spec.byte_fallback,
        },
    }


@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}])
def test_ids_are_those_of_a_tokenizer_json(options, sentences, tmp_path):
    model = train(sentences, **options)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(to_json(model)))
    tokenizer = conversion.load_tokenizer(tmp_path)
    assert tokenizer.vocabulary_size == 501
    texts = [*sentences, *HARD[:-1]]
    assert ids_of(tokenizer, texts) == expected(model, texts)
    path.write_text(json.dumps(to_json(model, end=False)))
    tokenizer = conversion.load_tokenizer(tmp_path)
    ids = tokenizer.tokenize(["the mask", "a"])["encoder_token_ids"]
    wanted = expected(model, ["the mask"])[0][:-1]
    np.testing.assert_array_equal(ids[0], wanted)


def test_sentinels_stand_alone(sentences, tmp_path):
    """T5's marks, counted from the end, whatever stands around them."""
    model = train(sentences)
    (tmp_path / "spiece.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 3}')
    tokenizer = conversion.load_tokenizer(tmp_path)
    assert tokenizer.vocabulary_size == 503
    the, mask = expected(model, ["the", "mask"])
    wanted = [*the[:-1], 502, *mask[:-1], 500, 1]
    for text in (
        "the <extra_id_0> mask <extra_id_2>",
        "the<extra_id_0>mask<extra_id_2>",
        " the  <extra_id_0>  mask  <extra_id_2>  ",
    ):
        assert ids_of(tokenizer, [text]) == [wanted], text
    assert ids_of(tokenizer, ["<extra_id_1> the"]) == [[501, *the]]
    assert ids_of(tokenizer, ["▁", "<extra_id_1>"])[1] == [501, 1]


def test_back_to_strings(sentences, tmp_path):
    """Normalised text comes back; ids of no piece are left out."""
    model = train(sentences, byte_fallback=True)
    (tmp_path / "spiece.model").write_bytes(model)
    tokenizer = conversion.load_tokenizer(tmp_path)
    texts = ["the mask of padding", "日本 🙂", ""]
    ids = tokenizer.tokenize(texts)["encoder_token_ids"]
    said = tokenizer.detokenize(ids)
    assert [s.decode() for s in said.numpy()] == texts
    row = expected(model, ["the mask"])[0]
    strange = [[*row[:-1], 0, 7777, -5, 1, *row]]
    assert tokenizer.detokenize(strange).numpy()[0] == b"the mask"
    assert tokenizer.detokenize(tf.zeros([2, 0], "int64")).shape == [2]


def test_a_model_that_serves_strings(sentences, tmp_path):
    (tmp_path / "spiece.model").write_bytes(train(sentences))
    tokenizer = conversion.load_tokenizer(tmp_path)
    model = SwitchTransformer(
        vocabulary_size=512,
        model_dim=8,
        hidden_dim=8,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
    )
    serving.export(
        model,
        str(tmp_path / "1"),
        tokenizer.tokenize,
        tokenizer.detokenize,
        max_length=3,
        tracked=[tokenizer],
    )
    served = tf.saved_model.load(str(tmp_path / "1"))
    texts = ["the mask", "a"]
    answer = served.signatures["serving_default"](inputs=tf.constant(texts))
    ids = model.generate(tokenizer.tokenize(texts)["encoder_token_ids"], 3)
    np.testing.assert_array_equal(answer["token_ids"], ids["token_ids"])
    np.testing.assert_array_equal(
        answer["outputs"], tokenizer.detokenize(ids["token_ids"])
    )


def changed(path, value):
    """A `tokenizer.json` with another value at a path."""

    def change(given):
        *parents, last = path
        part = given
        for name in parents:
            part = part[name]
        part[last] = value

    return change


METASPACE = {"type": "Metaspace", "prepend_scheme": "always"}
REFUSED = {
    "a unigram model. Received: type='BPE'": changed(["model", "type"], "BPE"),
    "`unk_id` must be": changed(["model", "unk_id"], None),
    "`unk_id` must be an id": changed(["model", "unk_id"], 10**6),
    "Received: NFKC": changed(["normalizer"], {"type": "NFKC"}),
    "nothing but several spaces": changed(
        ["normalizer"],
        {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
    ),
    "`pre_tokenizer` must be": changed(["pre_tokenizer"], METASPACE),
    "prepends always": changed(
        ["pre_tokenizer", "pretokenizers", 1, "prepend_scheme"], "first"
    ),
    "`post_processor` must append one": changed(
        ["post_processor", "single"],
        [{"SpecialToken": {"id": "a"}}, {"Sequence": {"id": "A"}}],
    ),
    "`added_tokens` must continue": changed(["added_tokens", 0, "id"], 502),
    "or be of it": changed(["added_tokens", 0, "id"], 5),
}


@pytest.mark.parametrize("words", REFUSED)
def test_tokenizers_that_sentencepiece_has_not(words, sentences, tmp_path):
    given = to_json(train(sentences[:400]))
    REFUSED[words](given)
    (tmp_path / "tokenizer.json").write_text(json.dumps(given))
    with pytest.raises(ValueError, match=re.escape(words)):
        conversion.load_tokenizer(tmp_path)


def test_files_that_are_no_tokenizers(sentences, tmp_path):
    with pytest.raises(ValueError, match="must hold tokenizer.json or"):
        conversion.load_tokenizer(tmp_path)
    model = train(sentences)
    for content in (b"", b"no model", model[:200]):
        (tmp_path / "spiece.model").write_bytes(content)
        with pytest.raises(ValueError, match="must be a SentencePiece model"):
            conversion.load_tokenizer(tmp_path)
    (tmp_path / "spiece.model").write_bytes(model)
    for wrong in (7000, 2, 9):  # none, the unknown piece, a word
        text = json.dumps({"eos_token_id": wrong})
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=f"Received: end_id={wrong}"):
            conversion.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="`tokenizer.json` must be JSON"):
        conversion.load_tokenizer(tmp_path)


def test_ids_are_those_that_the_model_was_trained_with(sentences, tmp_path):
    """SentencePiece's own defaults have no padding: a word would be padding."""
    ids = {"pad_id": 3, "eos_id": 2, "unk_id": 0, "bos_id": 1}
    path = tmp_path / "spiece.model"
    path.write_bytes(train(sentences, **(ids | {"pad_id": -1})))
    with pytest.raises(ValueError, match="train it with pad_id=0, eos_id=1"):
        conversion.load_tokenizer(tmp_path)
    path.write_bytes(train(sentences, **ids))
    tokenizer = conversion.load_tokenizer(tmp_path)
    assert (tokenizer.pad_id, tokenizer.end_id) == (3, 2)


def test_spaces_that_are_joined_before(sentences, tmp_path):
    """The other form of the same: mT5's, without `WhitespaceSplit`."""
    model = train(sentences)
    given = to_json(model)
    given["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            given["normalizer"],
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
        ],
    }
    given["pre_tokenizer"] = METASPACE
    (tmp_path / "tokenizer.json").write_text(json.dumps(given))
    tokenizer = conversion.load_tokenizer(tmp_path)
    texts = [*sentences[:50], *HARD[:-1]]
    assert ids_of(tokenizer, texts) == expected(model, texts)
