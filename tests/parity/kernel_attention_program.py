"""Runs the Model Garden's `KernelAttention`; see `kernel_attention_test`."""

import importlib.util
import json
import pathlib
import sys
import sysconfig

import numpy as np
import tensorflow as tf

_PATH = "official/nlp/modeling/layers/kernel_attention.py"


def load():
    """Loads the file alone: its package would import every other layer."""
    path = pathlib.Path(sysconfig.get_path("purelib")) / _PATH
    spec = importlib.util.spec_from_file_location("kernel_attention", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(source: str, target: str) -> None:
    """Reads arrays and cases, computes an output for each, writes them."""
    given = dict(np.load(source))
    cases = json.loads(str(given.pop("cases")))
    module = load()
    answers = {
        name: attend(module, given, **case) for name, case in cases.items()
    }
    # Two projections as the layer redraws them, and many as it draws them.
    create = module.create_projection_matrix
    features, dim = given["projection"].shape
    redrawn = [create(features, dim) for _ in range(2)]
    drawn = [create(dim, dim, tf.constant([i, i + 1])) for i in range(300)]
    np.savez(
        target, redrawn=np.stack(redrawn), drawn=np.stack(drawn), **answers
    )


def attend(
    module,
    given: dict[str, np.ndarray],
    transform: str,
    query: str,
    key: str,
    value: str | None = None,
    mask: str | None = None,
    projection: str = "projection",
    stream: bool = False,
    **settings,
) -> np.ndarray:
    """Runs a layer whose inputs are the heads, side by side."""
    features, dim = given[projection].shape
    query, key, value = (
        tf.constant(given[name]) for name in (query, key, value or key)
    )
    heads = query.shape[-1] // dim
    layer = module.KernelAttention(
        feature_transform=transform,
        num_random_features=features,
        num_heads=heads,
        key_dim=dim,
        use_bias=False,
        **settings,
    )
    layer._projection_matrix = tf.constant(given[projection])
    width = heads * dim
    to_heads = np.eye(width).reshape(width, heads, dim)
    from_heads = np.eye(width).reshape(heads, dim, width)
    arguments = {"query": query, "value": value, "key": key}
    layer(**arguments)  # makes the weights
    layer.set_weights([to_heads, to_heads, to_heads, from_heads])
    if mask:
        visible = tf.constant(given[mask], "float32")
        arguments["attention_mask"] = visible
    if not stream:
        return layer(**arguments).numpy()
    cache = {
        "kv": tf.zeros((len(query), heads, dim, features)),
        "k_sum": tf.zeros((len(query), heads, features)),
    }
    steps = [
        layer(
            **{name: x[:, i : i + 1] for name, x in arguments.items()},
            cache=cache,
        )
        for i in range(query.shape[1])
    ]
    return tf.concat(steps, axis=1).numpy()


if __name__ == "__main__":
    main(*sys.argv[1:])
