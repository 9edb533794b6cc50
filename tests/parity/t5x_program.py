"""Writes checkpoints as T5X does, and computes their logits; see the test.

T5X is on no registry: these are its formats, by the libraries that it writes
them with (Flax's msgpack, tensorstore's zarr), and its models' equations
(`t5x/examples/t5/network.py`, `flaxformer/architectures/moe`) in plain JAX.
"""

import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from flax import serialization
from flax import traverse_util

VERSION = 3


def main(folder: str) -> None:
    root = pathlib.Path(folder)
    given = np.load(root / "inputs.npz")
    for name, sizes in json.loads((root / "cases.json").read_text()).items():
        rng = np.random.default_rng(len(name))
        flat = parameters(sizes, rng)
        write(root / name, flat, sizes["dtype"])
        logits = jax.jit(functools.partial(transformer, sizes))(
            traverse_util.unflatten_dict(flat, sep="/"),
            given["source"],
            given["target"],
        )
        np.save(root / f"{name}.npy", np.asarray(logits))


def parameters(sizes: dict, rng) -> dict:
    """The tree of parameters, flat, with values that make all parts count."""
    d, heads, hidden = sizes["dim"], sizes["heads"], sizes["hidden"]
    joined = heads * sizes["key_dim"]
    found = {"token_embedder/embedding": rng.normal(size=(sizes["words"], d))}
    if not sizes["tied"]:
        head = rng.normal(size=(d, sizes["words"]))
        found["decoder/logits_dense/kernel"] = head * d**-0.5
    for stack in ("encoder", "decoder"):
        found[f"{stack}/relpos_bias/rel_embedding"] = rng.normal(
            size=(heads, sizes["buckets"])
        )
        found[f"{stack}/{stack}_norm/scale"] = rng.uniform(0.5, 1.5, d)
        for layer in range(sizes["layers"][stack]):
            place = f"{stack}/layers_{layer}"
            for norm in norms(stack):
                found[f"{place}/{norm}/scale"] = rng.uniform(0.5, 1.5, d)
            for attention in attentions(stack):
                for part in ("query", "key", "value"):
                    kernel = rng.normal(size=(d, joined)) * d**-0.5
                    found[f"{place}/{attention}/{part}/kernel"] = kernel
                out = rng.normal(size=(joined, d)) * joined**-0.5
                found[f"{place}/{attention}/out/kernel"] = out
            inside, experts = "mlp", ()
            if sizes["experts"] and layer % sizes["every"] == (
                sizes["every"] - 1
            ):
                inside, experts = "mlp/expert", (sizes["experts"],)
                found[f"{place}/mlp/router/router_weights/w/kernel"] = (
                    rng.normal(size=(d, *experts))
                )
            kernels = ("wi_0", "wi_1") if sizes["gated"] else ("wi",)
            for name in kernels:
                kernel = rng.normal(size=(*experts, d, hidden)) * d**-0.5
                found[f"{place}/{inside}/{name}/kernel"] = kernel
            kernel = rng.normal(size=(*experts, hidden, d)) * hidden**-0.5
            found[f"{place}/{inside}/wo/kernel"] = kernel
    dtype = jnp.dtype(sizes["dtype"])
    return {n: v.astype(dtype).astype("float32") for n, v in found.items()}


def attentions(stack: str) -> list[str]:
    if stack == "encoder":
        return ["attention"]
    return ["self_attention", "encoder_decoder_attention"]


def norms(stack: str) -> list[str]:
    parts = ["attention"]
    if stack == "decoder":
        parts = ["self_attention", "cross_attention"]
    return [f"pre_{part}_layer_norm" for part in (*parts, "mlp")]


def write(folder: pathlib.Path, flat: dict, dtype: str) -> None:
    """The file `checkpoint`, and beside it zarr in chunks."""
    written = {}
    for name, value in flat.items():
        place = "target." + name.replace("/", ".")
        # T5X divides an axis into equal parts; two are enough to be chunks.
        chunks = [n // 2 if n % 2 == 0 else n for n in value.shape]
        spec = tensorstore.Spec(
            {
                "driver": "zarr",
                "dtype": dtype,
                "kvstore": {"driver": "file", "path": place},
                "metadata": {
                    "compressor": {"id": "gzip"},
                    "shape": value.shape,
                    "chunks": chunks,
                },
            }
        ).to_json()
        absolute = {**spec, "kvstore": {**spec["kvstore"]}}
        absolute["kvstore"]["path"] = f"{folder.absolute() / place}/"
        store = tensorstore.open(absolute, create=True, open=True).result()
        store.write(value.astype(jnp.dtype(dtype))).result()
        written[name] = spec
    target = traverse_util.unflatten_dict(written, sep="/")
    state = {"step": np.int32(7), "param_states": {"v": np.ones(3)}}
    tree = {"version": VERSION, "optimizer": {"state": state, "target": target}}
    (folder / "checkpoint").write_bytes(serialization.to_bytes(tree))


def transformer(sizes, tree, source, target):
    embedding = tree["token_embedder"]["embedding"]
    length = target.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    # A decoder is given the sequence shifted by one, so that all of its ids
    # but the first one are words.
    words = source > 0
    encoded = stack(
        sizes, tree["encoder"], "encoder", embedding[source], words[:, None, :]
    )
    decoded = stack(
        sizes,
        tree["decoder"],
        "decoder",
        embedding[target],
        causal[None],
        encoded,
        words[:, None, :],
    )
    if sizes["tied"]:
        return decoded @ embedding.T / jnp.sqrt(sizes["dim"])
    return decoded @ tree["decoder"]["logits_dense"]["kernel"]


def stack(sizes, tree, kind, x, mask, encoded=None, encoded_mask=None):
    length = x.shape[1]
    distance = jnp.arange(length)[None, :] - jnp.arange(length)[:, None]
    places = bucket(distance, kind == "encoder", sizes["buckets"])
    bias = tree["relpos_bias"]["rel_embedding"][:, places]
    for layer in range(sizes["layers"][kind]):
        block = tree[f"layers_{layer}"]
        first, *others, last = norms(kind)
        name, *crossing = attentions(kind)
        y = norm(block[first], x)
        x = x + attend(sizes, block[name], y, y, mask, bias)
        for norm_name, cross in zip(others, crossing, strict=True):
            y = norm(block[norm_name], x)
            x = x + attend(sizes, block[cross], y, encoded, encoded_mask, 0.0)
        y = norm(block[last], x)
        x = x + (
            experts(sizes, block["mlp"], y)
            if "expert" in block["mlp"]
            else dense(sizes, block["mlp"], y)
        )
    return norm(tree[f"{kind}_norm"], x)


def bucket(distance, both_ways, number):
    """The paper's buckets: near distances one by one, far ones by logarithm."""
    start = 0
    n = -distance
    if both_ways:
        number //= 2
        start = jnp.where(n < 0, number, 0)
        n = jnp.abs(n)
    n = jnp.maximum(n, 0)
    exact = number // 2
    far = exact + (
        jnp.log(n / exact + np.finfo(np.float32).eps)
        / np.log(128 / exact)
        * (number - exact)
    ).astype(int)
    return start + jnp.where(n < exact, n, jnp.minimum(far, number - 1))


def norm(tree, x):
    root = jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    return x * root * tree["scale"]


def attend(sizes, tree, x, memory, mask, bias):
    def split(part, y):
        y = y @ tree[part]["kernel"]
        return y.reshape(*y.shape[:2], sizes["heads"], sizes["key_dim"])

    # No division by the root of `key_dim`: the kernels have it.
    scores = jnp.einsum(
        "bqhd,bkhd->bhqk", split("query", x), split("key", memory)
    )
    scores = jnp.where(mask[:, None], scores + bias, -1e10)
    mixed = jnp.einsum(
        "bhqk,bkhd->bqhd", jax.nn.softmax(scores), split("value", memory)
    )
    return mixed.reshape(*mixed.shape[:2], -1) @ tree["out"]["kernel"]


def dense(sizes, tree, x):
    if sizes["gated"]:
        x = jax.nn.gelu(x @ tree["wi_0"]["kernel"]) * (
            x @ tree["wi_1"]["kernel"]
        )
    else:
        x = jax.nn.relu(x @ tree["wi"]["kernel"])
    return x @ tree["wo"]["kernel"]


def experts(sizes, tree, x):
    """Each token goes to its best expert, and no token is dropped."""
    scores = x @ tree["router"]["router_weights"]["w"]["kernel"]
    gates = jax.nn.softmax(scores)
    all_outputs = jax.vmap(lambda expert: dense(sizes, expert, x))(
        tree["expert"]
    )
    best = jax.nn.one_hot(jnp.argmax(gates, -1), gates.shape[-1])
    return jnp.einsum("ebtd,bte,bte->btd", all_outputs, best, gates)


if __name__ == "__main__":
    jax.config.update("jax_default_matmul_precision", "highest")
    main(sys.argv[1])
