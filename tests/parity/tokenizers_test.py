"""Tokenisers in the graph against SentencePiece and `tokenizers`.

A thousand glosses of WordNet, on a model that is trained on others of them.
"""

import base64
import json
import os
import pathlib

import pytest

from benchmarks.shared import environment
from keras_moe import conversion
from keras_moe.conversion.checkpoints._sentencepiece_proto import ModelProto
from tests.conversion.checkpoints import load_tokenizer_test as case

pytestmark = pytest.mark.large
MARKED = [
    "the <extra_id_0> walks in <extra_id_1>park",
    "<extra_id_4>",
    "one <extra_id_0><extra_id_1> two <extra_id_2>",
    "a <pad> b </s> c",
]


@pytest.fixture(scope="module")
def glosses():
    folder = environment.ROOT / "build" / "wordnet"
    found = [*pathlib.Path(folder).rglob("data.noun")]
    assert found, "`make wordnet` fetches WordNet"
    lines = found[0].read_text().splitlines()
    return [line.split(" | ")[1].strip() for line in lines if " | " in line]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True, "character_coverage": 0.98},
        {"user_defined_symbols": ["::"], "control_symbols": ["<control>"]},
    ],
)
def test_sentencepiece(options, glosses, tmp_path):
    model = case.train(glosses[5000:15000], **options)
    (tmp_path / "spiece.model").write_bytes(model)
    tokenizer = conversion.load_tokenizer(tmp_path)
    texts = [*glosses[:1000], *case.HARD]
    assert case.ids_of(tokenizer, texts) == case.expected(model, texts)


def test_tokenizers(glosses, tmp_path):
    model = case.train(glosses[5000:15000])
    proto = ModelProto.FromString(model)
    table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap)
    pieces = {
        "vocab": [[p.piece, p.score] for p in proto.pieces],
        "charsmap": table.decode(),
    }
    (tmp_path / "pieces.json").write_text(json.dumps(pieces))
    # The last spells `<unk>`, which is found there, and is unknown here.
    texts = [*glosses[:1000], *case.HARD[:-1], *MARKED]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    python = environment.make("transformers")
    program = environment.ROOT / "tests/parity/tokenizers_program.py"
    environment.run([python, program, tmp_path], os.environ)
    tokenizer = conversion.load_tokenizer(tmp_path / "theirs")
    theirs = json.loads((tmp_path / "ids.json").read_text())
    ours = tokenizer.tokenize(texts)["encoder_token_ids"].numpy()
    for text, row, wanted in zip(texts, ours, theirs, strict=True):
        assert list(row[: len(wanted)]) == wanted, text
        assert not row[len(wanted) :].any(), text
