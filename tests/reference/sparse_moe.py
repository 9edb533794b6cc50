"""The mixture-of-experts layer, token by token."""

import numpy as np


def relu(x):
    return np.maximum(x, 0.0)


class ExpertBank:
    """Feed-forward networks, each with weights of its own, in float64."""

    def __init__(self, wi, wo, wi_gate=None, bi=None, bo=None, act=relu):
        """Takes kernels `[experts, in, out]` and biases `[experts, out]`."""
        self.wi, self.wo, self.wi_gate = wi, wo, wi_gate
        self.bi, self.bo, self.act = bi, bo, act

    def __call__(self, e, x):
        x = np.asarray(x, "float64")
        hidden = x @ self.wi[e]
        if self.bi is not None:
            hidden = hidden + self.bi[e]
        hidden = self.act(hidden)
        if self.wi_gate is not None:
            hidden = hidden * (x @ self.wi_gate[e])
        out = hidden @ self.wo[e]
        return out if self.bo is None else out + self.bo[e]


def combine(tokens, seats, expert):
    """One group's output: the weighted sum over the seats of each token."""
    outputs = np.zeros(np.shape(tokens), "float64")
    for seat in seats:
        outputs[seat.token] += seat.weight * expert(
            seat.expert, tokens[seat.token]
        )
    return outputs


def in_groups(tokens, mask, group_size):
    """Cuts `[n, dim]` into groups, the last filled up with padding."""
    size = group_size or max(len(tokens), 1)
    missing = -len(tokens) % size
    real = np.ones(len(tokens), bool) if mask is None else mask.reshape(-1)
    tokens = np.pad(tokens, ((0, missing), (0, 0)))
    real = np.pad(real, (0, missing))
    return [
        (tokens[start : start + size], real[start : start + size])
        for start in range(0, len(tokens), size)
    ]
