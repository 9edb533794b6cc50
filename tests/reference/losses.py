"""The losses, as sums over single tokens."""

import numpy as np

from tests.reference.seat import softmax


def load_balancing(probabilities, mask=None, index=None):
    """Equations 4 to 6 of arXiv:2101.03961, groups weighed by tokens.

    `index` `[groups, tokens, choices]`: who was asked; `experts` for nobody.
    """
    groups, tokens, experts = np.shape(probabilities)
    if mask is None:
        mask = np.ones((groups, tokens), bool)
    if index is None:
        index = np.argmax(probabilities, -1)[..., None]
    total = 0.0
    for g in range(groups):
        real = [s for s in range(tokens) if mask[g, s]]
        if not real:
            continue
        asks = [e for s in real for e in index[g, s] if e < experts]
        loss = 0.0
        for e in range(experts):
            mass = sum(float(probabilities[g, s, e]) for s in real)
            loss += asks.count(e) / max(len(asks), 1) * (mass / len(real))
        total += experts * loss * len(real)
    return total / max(mask.sum(), 1)


def router_z(logits, mask=None):
    """Equation 5 of arXiv:2202.08906, over real tokens."""
    groups, tokens, _ = np.shape(logits)
    values = [
        np.log(np.exp(np.asarray(logits[g, s], "float64")).sum()) ** 2
        for g in range(groups)
        for s in range(tokens)
        if mask is None or mask[g, s]
    ]
    return float(np.mean(values)) if values else 0.0


def crossentropy(labels, logits, pad_id=0, smoothing=0.0):
    """Mean over tokens of the cross-entropy with a smoothed one-hot."""
    values = []
    size = np.shape(logits)[-1]
    for label_row, logit_row in zip(labels, logits, strict=True):
        for label, row in zip(label_row, logit_row, strict=True):
            if label == pad_id:
                continue
            target = np.full(size, smoothing / size)
            target[label] += 1.0 - smoothing
            values.append(-(target * np.log(softmax(row))).sum())
    return float(np.mean(values)) if values else 0.0
