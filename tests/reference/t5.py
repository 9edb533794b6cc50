"""T5's attention and its buckets of distance (arXiv:1910.10683, 2.1)."""

import math

import numpy as np

from tests.reference.seat import softmax


def bucket(relative, bidirectional=True, num_buckets=32, max_distance=128):
    """The bucket of one `key position - query position`."""
    offset = 0
    if bidirectional:
        num_buckets //= 2
        if relative > 0:
            offset = num_buckets
        distance = abs(relative)
    else:
        distance = max(-relative, 0)
    exact = num_buckets // 2
    if distance < exact:
        return offset + distance
    # The largest j with (max / exact) ** (j / rest) <= distance / exact, in
    # integers: the definition, without the rounding of a logarithm.
    rest = num_buckets - exact
    j = 0
    while (
        j < rest - 1
        and distance**rest * exact ** (j + 1)
        >= max_distance ** (j + 1) * exact**rest
    ):
        j += 1
    return offset + exact + j


def float32_bucket(relative, bidirectional, num_buckets, max_distance):
    """mesh-tensorflow's formula, in the float32 that it is computed in."""
    offset = 0
    if bidirectional:
        num_buckets //= 2
        if relative > 0:
            offset = num_buckets
        distance = abs(relative)
    else:
        distance = max(-relative, 0)
    exact = num_buckets // 2
    if distance < exact:
        return offset + distance
    log = np.log(np.float32(distance) / np.float32(exact))
    far = log / np.float32(math.log(max_distance / exact))
    far = exact + int(far * np.float32(num_buckets - exact))
    return offset + min(far, num_buckets - 1)


def attention(query, value, wq, wk, wv, wo, heads, bias=None, mask=None):
    """One row, head by head and query by query; `mask` `[queries, keys]`."""
    query, value = np.asarray(query, "float64"), np.asarray(value, "float64")
    size = wq.shape[1] // heads
    outputs = np.zeros((len(query), wo.shape[1]))
    for i, x in enumerate(query):
        parts = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            q = x @ wq[:, part]
            seen = [j for j in range(len(value)) if mask is None or mask[i, j]]
            scores = [
                q @ (value[j] @ wk[:, part])
                + (0.0 if bias is None else bias[h, i, j])
                for j in seen
            ]
            weights = softmax(scores)
            parts.append(
                sum(
                    w * (value[j] @ wv[:, part])
                    for w, j in zip(weights, seen, strict=True)
                )
            )
        outputs[i] = np.concatenate(parts) @ wo
    return outputs
