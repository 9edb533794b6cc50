"""T5 and Switch Transformers on the tensors of Hugging Face's checkpoints.

Written down from the description of the models (arXiv:1910.10683, 2.1;
arXiv:2101.03961, 2.2), one row at a time, in float64.
"""

import math

import numpy as np

from tests.reference import t5
from tests.reference.seat import softmax

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu_new": np.vectorize(
        lambda x: (
            x
            / 2
            * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        )
    ),
}


def logits(tensors, source, target, heads, activation, scaled):
    """Logits of one row without padding, `[target, vocabulary]`."""
    t = {name: np.asarray(x, "float64") for name, x in tensors.items()}
    stacks = {}
    memory = None
    for stack, ids in (("encoder", source), ("decoder", target)):
        table = t.get(f"{stack}.embed_tokens.weight", t.get("shared.weight"))
        stacks[stack] = memory = run(
            t, stack, table[np.asarray(ids)], memory, heads, activation
        )
    hidden = memory * (memory.shape[-1] ** -0.5 if scaled else 1.0)
    return hidden @ t.get("lm_head.weight", table).T


def run(t, stack, x, memory, heads, activation):
    """One stack; a decoder if there is a memory."""
    causal = memory is not None
    distances = t[
        f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ]
    bias = np.array(
        [
            [distances[t5.bucket(k - q, not causal)] for k in range(len(x))]
            for q in range(len(x))
        ]
    ).transpose(2, 0, 1)
    mask = np.tril(np.ones((len(x), len(x)))) if causal else None
    block = 0
    while f"{stack}.block.{block}.layer.0.layer_norm.weight" in t:
        name = f"{stack}.block.{block}.layer"
        normed = norm(x, t[f"{name}.0.layer_norm.weight"])
        x = x + attend(
            t, f"{name}.0.SelfAttention", normed, normed, heads, bias, mask
        )
        if causal:
            normed = norm(x, t[f"{name}.1.layer_norm.weight"])
            across = f"{name}.1.EncDecAttention"
            x = x + attend(t, across, normed, memory, heads)
        last = f"{name}.{2 if causal else 1}"
        normed = norm(x, t[f"{last}.layer_norm.weight"])
        x = x + np.array(
            [feed_forward(t, last, row, activation) for row in normed]
        )
        block += 1
    return norm(x, t[f"{stack}.final_layer_norm.weight"])


def norm(x, scale):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def attend(t, name, query, value, heads, bias=None, mask=None):
    kernels = [t[f"{name}.{part}.weight"].T for part in "qkvo"]
    return t5.attention(query, value, *kernels, heads, bias, mask)


def feed_forward(t, layer, x, activation):
    """One token; by the most probable expert, if there are experts."""
    inner, weight = f"{layer}.DenseReluDense", 1.0
    if f"{inner}.wo.weight" not in t:
        inner = f"{layer}.mlp"
    if f"{inner}.router.classifier.weight" in t:
        shares = softmax(t[f"{inner}.router.classifier.weight"] @ x)
        chosen = int(np.argmax(shares))
        inner, weight = f"{inner}.experts.expert_{chosen}", shares[chosen]
    act = ACTIVATIONS[activation]
    if f"{inner}.wi_0.weight" in t:
        hidden = act(t[f"{inner}.wi_0.weight"] @ x)
        hidden = hidden * (t[f"{inner}.wi_1.weight"] @ x)
    else:
        hidden = act(t[f"{inner}.wi.weight"] @ x)
    return weight * (t[f"{inner}.wo.weight"] @ hidden)
