import re

import msgpack
import numpy as np
import pytest

from keras_moe import conversion
from tests.conversion.checkpoints import hugging_face_case
from tests.conversion.checkpoints import t5x_case as case
from tests.reference import hugging_face as reference

SOURCE, TARGET = np.array([5, 6, 7, 11, 1]), np.array([0, 4, 9, 9])
SWITCH = case.tensors_of(hugging_face_case.SWITCH)
QUERY = "decoder/layers_1/self_attention/query/kernel"
PLACE = "target." + QUERY.replace("/", ".")


def refused(folder, *words, **options):
    with pytest.raises(ValueError, match=re.escape(words[0])) as raised:
        conversion.load_t5x(folder, **options)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("family", "leaf"),
    [
        ("SWITCH", case.spec),
        ("T5", "PLACEHOLDER://{}".format),
        ("T5_1_1", case.spec),
    ],
)
def test_logits(family, leaf, tmp_path):
    theirs, tensors = SWITCH
    if family != "SWITCH":
        theirs, tensors = case.tensors_of(getattr(hugging_face_case, family))
    case.write(tmp_path, tensors, leaf)
    used = []
    model = conversion.load_t5x(
        tmp_path, progress=lambda name, sources: used.extend(sources)
    )
    new = family == "T5_1_1"
    padded = {"encoder_token_ids": np.array([[*SOURCE, 0, 0]])}
    logits = model(padded | {"decoder_token_ids": TARGET[None]})
    activation = "gelu_new" if new else "relu"
    wanted = reference.logits(theirs, SOURCE, TARGET, 2, activation, not new)
    np.testing.assert_allclose(logits[0], wanted, rtol=1e-4, atol=1e-4)
    assert sorted(used) == sorted(tensors)  # each once
    assert model.config.num_experts == (3 if family == "SWITCH" else 0)


def test_what_the_tensors_do_not_say(tmp_path):
    case.write(tmp_path, SWITCH[1])
    changes = {"activation": "silu", "max_relative_distance": 64}
    model = conversion.load_t5x(tmp_path, changes, dtype="bfloat16")
    assert model.config.activation == "silu"
    assert model.config.max_relative_distance == 64
    assert model.dtype_policy.name == "bfloat16"
    refused(tmp_path, "`num_heads` must be 2", config={"num_heads": 3})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder/layers/mlp/wi/kernel": 2}, ["must have tensors of their"]),
        ({"encoder/layers_3/mlp/wo/kernel": 2}, ["without a gap", "[0, 1, 3]"]),
        ({"encoder/relpos_bias/rel_embedding": 3}, ["of 2 axes", "(1, 1, 1)"]),
        ({"encoder/extra/scale": 1}, ["unexpected: encoder/extra/scale"]),
        ({QUERY: 2}, [f"{QUERY} (1, 1)", "of the shapes"]),
        (
            {"encoder/layers_0/mlp/router/router_weights/w/kernel": 2},
            ["The sparse layers must be", "[0, 1] of 2 and [1] of 2"],
        ),
        (
            {"encoder/layers_1/mlp/router/router_weights/w/bias": 1},
            ["unexpected: encoder/layers_1/mlp/router/router_weights/w/bias"],
        ),
    ],
)
def test_other_models(changes, words, tmp_path):
    ones = {name: case.packed(np.ones([1] * n)) for name, n in changes.items()}
    refused(case.write(tmp_path, SWITCH[1], **ones), *words)


@pytest.mark.parametrize("lost", ["token_embedder/embedding", QUERY])
def test_a_tensor_is_missing(lost, tmp_path):
    left = {n: value for n, value in SWITCH[1].items() if n != lost}
    refused(case.write(tmp_path, left), lost)


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (case.spec("../elsewhere"), ["a directory beside checkpoint"]),
        (case.spec("/etc"), ["a directory beside checkpoint", "'/etc'"]),
        (case.spec("nothing"), ["`nothing` must be a directory in zarr"]),
        ("PLACEHOLDER://..", ["a directory beside checkpoint"]),
        ("name", ["`name` must be a directory in zarr"]),
        (
            case.spec("x") | {"driver": "json"},
            [f"`{QUERY}` must be"],
        ),
        (case.spec("x") | {"kvstore": None}, ["must be an array, or the name"]),
        (7, ["must be an array, or the name", "int"]),
        (case.packed(np.ones((2, 2), "int32")), ["must be an array of floats"]),
        (msgpack.ExtType(1, b"\x93"), ["must be an array of floats"]),
        (msgpack.ExtType(2, b"\xc0"), ["must be an array of floats"]),
        (
            msgpack.ExtType(1, msgpack.packb(([1 << 40], "float32", b"1234"))),
            ["as long as its shape says"],
        ),
    ],
)
def test_leaves_that_lie(leaf, words, tmp_path):
    refused(case.write(tmp_path, SWITCH[1], **{QUERY: leaf}), *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1 << 40, 12]}, ["2 files for 274877906944 chunks"]),
        (
            {"shape": [1 << 40, 12], "chunks": [1 << 39, 12]},
            ["a file too short for a chunk of"],
        ),
        ({"shape": [8, 12], "chunks": [8]}, ["must have a `chunks`", "[8]"]),
        ({"shape": [-8, 12]}, ["must have a `shape`"]),
        ({"shape": []}, ["must have a `shape`"]),
        ({"dtype": "|O"}, ["must have a `dtype`", "'|O'"]),
        ({"dtype": "<i4"}, ["must have a `dtype`"]),
        ({"filters": [{"id": "pickle"}]}, ["must have a `filters`"]),
        ({"compressor": {"id": "blosc"}}, ["must have a `compressor`"]),
        ({"compressor": None}, ["a file too short for a chunk of"]),
        ({"zarr_format": 3}, ["must have a `zarr_format`"]),
    ],
)
def test_headers_that_lie(changes, words, tmp_path):
    case.write(tmp_path, SWITCH[1])
    case.write_zarr(tmp_path / PLACE, np.ones((8, 12)), **changes)
    refused(tmp_path, *words)


def test_files_that_are_not_whole(tmp_path):
    refused(tmp_path, "must hold the file checkpoint")
    folder = case.write(tmp_path / "checkpoint_7", SWITCH[1])
    refused(tmp_path, "but checkpoint_7 in it does")
    chunk = folder / PLACE / "1.0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[: len(data) // 2])
    refused(folder, f"`{PLACE}` must be whole")
    chunk.unlink()
    refused(folder, "1 files for 2 chunks")
    file = folder / "checkpoint"
    whole = file.read_bytes()
    for broken, words in {
        whole[: len(whole) // 2]: "must be a whole msgpack file",
        b"\x91" * 5000: "must be a whole msgpack file",
        b"\x82\xa1a\x01\xa1a\x02": "a name is there twice",
        b"\x81\x01\x02": "must be a whole msgpack file",
        b"\x81\xa3a/b\x02": "no name can be 'a/b'",
        b"\x07": "must hold a tree",
        b"\x80": "must hold `optimizer/target`",
        b'model_checkpoint_path: "m"': "`load_mesh_tensorflow` reads",
    }.items():
        file.write_bytes(broken)
        refused(folder, words)
