"""What the tests of SparseMoE share."""

import keras
import numpy as np

from keras_moe import layers

DIM = 6
METRICS = {
    "auxiliary_loss",
    "router_z_loss",
    "fraction_tokens_left_behind",
    "router_confidence",
    "expert_usage",
    "router_entropy",
    "expert_load_cv",
}


def make(num_experts=4, router=None, dim=DIM, hidden_dim=8, **kwargs):
    """A built layer whose router has opinions.

    The default router kernel is so small that gates are all alike. `router` is
    one, or settings of Switch's.
    """
    if router is None or isinstance(router, dict):
        router = {"kernel_initializer": "glorot_normal", **(router or {})}
        router = layers.SwitchRouter(name="router", **router)
    layer = layers.SparseMoE(num_experts, hidden_dim, router=router, **kwargs)
    layer.build((None, None, dim))
    for weight in layer.weights:
        if "bias" in weight.path:
            weight.assign(np.random.normal(size=weight.shape))
    return layer


def data(*shape):
    return np.random.normal(size=(*shape, DIM)).astype("float32")


def kernels(layer):
    experts = layer.experts
    found = {
        "wi": experts.inner.kernel.numpy(),
        "wo": experts.outer.kernel.numpy(),
    }
    if getattr(layer.router, "kernel", None) is not None:
        found["router"] = layer.router.kernel.numpy()
    if layer.experts.gated:
        found["wi_gate"] = experts.gate.kernel.numpy()
    return found


def expert_inputs(layer, monkeypatch):
    """Records what the experts see."""
    seen = []
    original = layer.experts.call

    def call(inputs, **kwargs):
        seen.append(np.asarray(inputs))
        return original(inputs, **kwargs)

    monkeypatch.setattr(layer.experts, "call", call)
    return seen


def small_model(**kwargs):
    inputs = keras.Input((None, DIM))
    x = layers.SparseMoE(4, 8, name="first", **kwargs)(inputs)
    x = layers.SparseMoE(4, 8, name="second")(inputs + x)
    return keras.Model(inputs, x)
