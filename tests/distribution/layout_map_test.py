"""Layouts of the weights of all layers, wherever they are."""

import keras
import numpy as np
import pytest

from keras_moe import distribution
from keras_moe import layers
from keras_moe import models
from keras_moe import training
from tests.distribution.layout_map_case import DIM
from tests.distribution.layout_map_case import EXPERTS
from tests.distribution.layout_map_case import HEADS
from tests.distribution.layout_map_case import INNER
from tests.distribution.layout_map_case import NETWORK
from tests.distribution.layout_map_case import OUTER
from tests.distribution.layout_map_case import T5
from tests.distribution.layout_map_case import axes_of
from tests.distribution.layout_map_case import below
from tests.distribution.layout_map_case import functional
from tests.distribution.layout_map_case import mesh

# === What the docstring promises ===


def test_every_layer_is_laid_out_whatever_keras_calls_it():
    inputs = keras.Input([4], dtype="int32")
    x = keras.layers.Embedding(16, DIM)(inputs)
    made = []
    for _ in range(2):
        for make in (
            lambda: layers.T5Attention(2, 4),
            lambda: layers.FeedForward(16),
            lambda: layers.RandomFeatureAttention(2, 4, 8),
            lambda: layers.SparseMoE(4, 16),
        ):
            layer = make()
            made.append(layer)
            alone = isinstance(layer, layers.FeedForward | layers.SparseMoE)
            x = layer(x) if alone else layer(x, x)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    model = keras.Model(inputs, keras.layers.Dense(16)(x))

    axes = axes_of(model)
    for layer, expected in zip(
        made, [T5, NETWORK, HEADS, EXPERTS] * 2, strict=True
    ):
        assert below(layer, axes) == expected, layer.name
    assert len(axes) == sum(map(len, (T5, NETWORK, HEADS, EXPERTS))) * 2
    # Two of a kind, the second with a number of Keras's.
    assert made[0].name != made[4].name
    assert f"{made[4].name}/query/kernel" in axes


def test_gates_and_biases_lie_as_kernels_do():
    inputs = keras.Input([4, DIM])
    network = layers.FeedForward(16, gated=True, use_bias=True)
    moe = layers.SparseMoE(4, 16, gated=True, use_bias=True)
    axes = axes_of(keras.Model(inputs, moe(network(inputs))))
    assert below(network, axes) == {
        "wi/kernel": INNER,
        "wi/bias": ("model",),
        "wi_gate/kernel": INNER,
        "wi_gate/bias": ("model",),
        "wo/kernel": OUTER,
        "wo/bias": (None,),
    }
    into = {
        "kernel": ("expert", None, "model"),
        "bias": ("expert", None, "model"),
    }
    back = {"kernel": ("expert", "model", None), "bias": ("expert", None, None)}
    assert below(moe, axes) == {
        f"experts/{bank}/{name}": value
        for bank, part in (("wi", into), ("wi_gate", into), ("wo", back))
        for name, value in part.items()
    }


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("quantized", [False, True])
def test_scales_and_factors_of_lora_lie_as_kernels_do(quantized, rank):
    moe = layers.SparseMoE(4, 16, gated=True, use_bias=True)
    moe.build((None, None, DIM))
    for bank in moe.experts.banks:
        if quantized:
            bank.quantize("int8")
        if rank:
            bank.enable_lora(rank)
    axes = axes_of(moe)
    assert len(axes) == 3 * (2 + quantized + (2 if rank else 0))
    for variable in moe.experts.weights:
        # This factor is one for all experts; no other size is 4 or 16.
        shared = variable.path.endswith("lora_kernel_b")
        names = {16: "model"} if shared else {4: "expert", 16: "model"}
        expected = tuple(names.get(size) for size in variable.shape)
        assert axes[variable.path] == expected, variable.path


def test_scales_and_factors_of_a_network_lie_as_kernels_do():
    network = layers.FeedForward(16, use_bias=True)
    network.build((None, DIM))
    for dense in (network.inner, network.outer):
        dense.quantize("int8")
        dense.enable_lora(2)
    axes = axes_of(network)
    assert len(axes) == len(network.weights) == 2 * 5
    for variable in network.weights:
        # Of all sizes only that of the hidden layer is 16.
        assert axes[variable.path] == tuple(
            "model" if size == 16 else None for size in variable.shape
        ), variable.path


def test_scales_and_factors_of_attention_lie_by_heads():
    attention = layers.RandomFeatureAttention(2, 3, 8)
    attention.build((None, 4, 5), (None, 4, 5))
    for name in ("query", "output_projection"):
        projection = getattr(attention, name)
        projection.quantize("int8")
        projection.enable_lora(1)
    axes = below(attention, axes_of(attention))
    weights = {v.path: v for v in attention.weights}
    for name in ("query", "attention_output"):
        for weight in ("kernel", "bias", "kernel_scale", "lora_kernel_a"):
            path = f"{name}/{weight}"
            shape = weights[f"{attention.path}/{path}"].shape
            # Of all sizes only the number of heads is 2.
            assert axes[path] == tuple(
                "model" if size == 2 else None for size in shape
            ), path


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("attention", ["softmax", "random_feature"])
def test_a_transformer_is_laid_out(quantized, attention):
    model = models.SwitchTransformer.from_preset(
        "switch_tiny", num_experts=6, attention=attention
    )
    if quantized:
        model.quantize("int8")
    axes = axes_of(model)
    for variable in model.weights:
        its = axes.get(variable.path)
        assert ("/experts/" in variable.path) == ("expert" in (its or ()))
        if variable.path.endswith("kernel") and "router" not in variable.path:
            assert any(its), variable.path
    embeddings = [path for path in axes if path.endswith("/embeddings")]
    assert {axes[path] for path in embeddings} == {(None, "model")}
    whole = {
        v.path.rsplit("/", 1)[-1]
        for v in model.weights
        if v.path not in axes
        and not any(part in v.path for part in ("router", "/features/"))
    }
    assert whole <= {"scale", "table", "embeddings_scale"}


@pytest.mark.parametrize("separate", [False, True])
def test_one_table_of_embeddings_may_serve_both_sides(separate):
    model = models.SwitchTransformer(
        vocabulary_size=16,
        target_vocabulary_size=24 if separate else None,
        num_encoder_layers=1,
        num_decoder_layers=1,
        model_dim=DIM,
        hidden_dim=16,
        num_heads=2,
        num_experts=0,
    )
    embeddings = [p for p in axes_of(model) if p.endswith("/embeddings")]
    assert len(embeddings) == 1 + separate


# === Where layers may be ===


def test_models_within_models_and_shared_layers_are_found():
    shared = layers.FeedForward(16)
    inner = functional(shared, layers.FeedForward(16))
    outer = functional(shared, inner, layers.FeedForward(16))
    assert len(axes_of(outer)) == 3 * 2


def test_what_a_trainer_wraps_is_found():
    model = models.SwitchTransformer.from_preset("switch_tiny")
    ids = np.ones((1, 4), "int32")
    wrapper = training.EarlyExitTrainer(model)
    wrapper({"encoder_token_ids": ids, "decoder_token_ids": ids})
    assert axes_of(wrapper) == axes_of(model)


def test_names_may_hold_what_regular_expressions_do():
    one = layers.FeedForward(16, name="a.b+(c")
    other = keras.layers.Dense(DIM, name="a.b+(c-dense")
    device_mesh = mesh(model=2)
    model = functional(one, other)
    layouts = distribution.layout_map(device_mesh, model)
    assert layouts[one.inner.kernel.path].axes == INNER
    assert layouts[one.inner.kernel.path.replace(".", "x")] is None
    assert layouts[other.kernel.path] is None


def test_axes_that_the_mesh_lacks_are_whole():
    model = functional(layers.SparseMoE(4, 16, name="moe"))
    assert axes_of(model, mesh(expert=2))["moe/experts/wi/kernel"] == (
        "expert",
        None,
        None,
    )
    assert axes_of(model, mesh(model=2))["moe/experts/wi/kernel"] == (
        None,
        None,
        "model",
    )
    assert axes_of(model, mesh(batch=2))["moe/experts/wi/kernel"] == (None,) * 3


def test_a_layout_can_be_added_and_taken_out():
    model = functional(layers.FeedForward(16), keras.layers.Dense(DIM))
    layouts = distribution.layout_map(mesh(model=2), model)
    network, dense = model.layers[1:]
    layouts[dense.kernel.path] = (None, "model")
    assert layouts[dense.kernel.path].axes == (None, "model")
    del layouts[network.inner.kernel.path]
    assert layouts[network.inner.kernel.path] is None


# === Refusals ===


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.filterwarnings("ignore:Invalid quantization mode")
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.SparseMoE(2, 16, name="packed"),
        lambda: layers.RandomFeatureAttention(2, 4, 8, name="packed"),
    ],
)
def test_kernels_whose_axes_are_packed_are_refused(layer):
    inputs = keras.Input([4, DIM])
    layer = layer()
    alone = isinstance(layer, layers.SparseMoE)
    model = keras.Model(
        inputs, layer(inputs) if alone else layer(inputs, inputs)
    )
    model.quantize("int4")
    message = "floating point or int8 to lie along .*'packed/.*'int4', of shape"
    with pytest.raises(ValueError, match=message):
        axes_of(model)


class Lazy(keras.Model):
    """Has a layer that it does not build."""

    def __init__(self):
        super().__init__()
        self.network = layers.FeedForward(16, name="never")
        self.built = True


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (keras.Sequential([keras.layers.Dense(2)]), "a model that is built"),
        (Lazy(), "FeedForward 'never' that is not built"),
        (None, "a model that is built"),
    ],
)
def test_a_model_that_is_not_built_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        distribution.layout_map(mesh(model=2), model)


def test_a_mesh_is_a_mesh():
    model = functional(layers.FeedForward(16))
    with pytest.raises(ValueError, match="`device_mesh` must be"):
        distribution.layout_map({"model": 2}, model)
