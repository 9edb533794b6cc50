"""The losses, as sums over single tokens."""

import numpy as np

from tests.reference.switch_moe import softmax


def load_balancing(probabilities, mask=None):
    """Equations 4 to 6 of arXiv:2101.03961, groups weighed by tokens."""
    groups, tokens, experts = np.shape(probabilities)
    if mask is None:
        mask = np.ones((groups, tokens), bool)
    total = 0.0
    for g in range(groups):
        real = [s for s in range(tokens) if mask[g, s]]
        if not real:
            continue
        loss = 0.0
        for e in range(experts):
            asked = sum(np.argmax(probabilities[g, s]) == e for s in real)
            mass = sum(float(probabilities[g, s, e]) for s in real)
            loss += (asked / len(real)) * (mass / len(real))
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
