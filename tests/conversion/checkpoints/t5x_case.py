"""Checkpoints as T5X writes them, made here: msgpack, and zarr beside it."""

import gzip
import json

import msgpack
import numpy as np

from tests.conversion.checkpoints import hugging_face_case

_KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out"}


def tensors_of(config):
    """The tensors of Hugging Face's case, under T5X's names and layouts.

    Returns both: one for the reference, one to be written.
    """
    theirs = hugging_face_case.tensors_of(config)
    found = {"token_embedder/embedding": theirs["shared.weight"]}
    experts = {}
    for name, value in theirs.items():
        stack, *rest = name.split(".")
        if stack == "lm_head":
            found["decoder/logits_dense/kernel"] = value.T
        elif rest[0] == "final_layer_norm":
            found[f"{stack}/{stack}_norm/scale"] = value
        elif rest[0] == "block":
            place, new, turned = _place(stack, rest)
            value = value.T if turned else value
            if "expert" in new:
                experts.setdefault(f"{stack}/{place}/{new}", []).append(value)
            else:
                found[f"{stack}/{place}/{new}".replace("//", "/")] = value
    banks = {name: np.stack(bank) for name, bank in experts.items()}
    return theirs, found | banks


def _place(stack, rest):
    _, block, _, layer, part, *kernel = rest
    place = f"layers_{block}"
    names = ["attention" if stack == "encoder" else "self_attention"]
    names += ["encoder_decoder_attention"] if stack == "decoder" else []
    norms = [
        name.replace("encoder_decoder", "cross") + "_layer_norm"
        for name in names
    ]
    norms.append("mlp_layer_norm")
    if part == "layer_norm":
        return place, f"pre_{norms[int(layer)]}/scale", False
    if kernel[0] == "relative_attention_bias":
        return "", "relpos_bias/rel_embedding", True
    if part.endswith("Attention"):
        return place, f"{names[int(layer)]}/{_KERNELS[kernel[0]]}/kernel", True
    if kernel[0] == "router":
        return place, "mlp/router/router_weights/w/kernel", True
    if kernel[0] == "experts":
        return place, f"mlp/expert/{kernel[2]}/kernel", True
    return place, f"mlp/{kernel[0]}/kernel", True


def packed(array):
    """An array in Flax's msgpack."""
    data = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(data))


def spec(path):
    """What the msgpack file says of an array that lies beside it."""
    return {
        "driver": "zarr",
        "dtype": "float32",
        "kvstore": {"driver": "file", "path": path + "/"},
        "metadata": {"compressor": {"id": "gzip", "level": 1}},
    }


def write(folder, tensors, leaf=spec, **changes):
    """Writes a checkpoint; tensors of one axis lie in the file itself."""
    folder.mkdir(exist_ok=True)
    target = {}
    for name, value in tensors.items():
        place = "target." + name.replace("/", ".")
        if value.ndim == 1:
            put(target, name, packed(value))
        else:
            write_zarr(folder / place, value)
            put(target, name, leaf(place))
    for name, value in changes.items():
        put(target, name, value)
    tree = {"state": {"step": packed(np.ones((), "int32"))}, "target": target}
    data = msgpack.packb({"version": 3, "optimizer": tree})
    (folder / "checkpoint").write_bytes(data)
    return folder


def put(tree, path, value):
    *above, last = path.split("/")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = value


def write_zarr(folder, value, **changes):
    """Writes zarr's second version in two chunks, where that is possible."""
    rows = len(value) // 2 if len(value) % 2 == 0 else len(value)
    header = {
        "zarr_format": 2,
        "shape": value.shape,
        "chunks": [rows, *value.shape[1:]],
        "dtype": "<f4",
        "compressor": {"id": "gzip", "level": 1},
        "fill_value": None,
        "filters": None,
        "order": "C",
        "dimension_separator": ".",
    }
    folder.mkdir(exist_ok=True)
    (folder / ".zarray").write_text(json.dumps(header | changes))
    zeros = ".0" * (value.ndim - 1)
    for place, start in enumerate(range(0, len(value), rows)):
        data = value[start : start + rows].astype("float32").tobytes()
        (folder / f"{place}{zeros}").write_bytes(gzip.compress(data))
