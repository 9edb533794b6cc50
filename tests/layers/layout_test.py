import re

import keras
import pytest

from keras_moe import layers
from keras_moe import models
from keras_moe.layers._layout_rules import DENSE_RULES
from keras_moe.layers._layout_rules import EXPERT_RULES
from keras_moe.layers._layout_rules import layout_map


def mesh(**axes):
    sizes = tuple(axes.values())
    count = 1
    for size in sizes:
        count *= size
    return keras.distribution.DeviceMesh(
        sizes, tuple(axes), devices=[f"cpu:{i}" for i in range(count)]
    )


def bank_variables(layer):
    """The variables of a layer's experts, by their path."""
    return {v.path: v for v in layer.experts.weights}


def make(quantized=False, rank=None):
    layer = layers.SparseMoE(4, 16, gated=True, use_bias=True, name="moe")
    layer.build((None, None, 8))
    for bank in (layer.experts.inner, layer.experts.gate, layer.experts.outer):
        if quantized:
            bank.quantize("int8")
        if rank:
            bank.enable_lora(rank)
    return layer


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("quantized", [False, True])
def test_every_variable_of_an_expert_is_matched_once(quantized, rank):
    layer = make(quantized, rank)
    layouts = layout_map(mesh(batch=2, expert=2), EXPERT_RULES)
    variables = bank_variables(layer)
    assert len(variables) == 3 * (2 + quantized + (2 if rank else 0))
    for path, variable in variables.items():
        assert sum(bool(re.fullmatch(rule, path)) for rule in EXPERT_RULES) == 1
        axes = layouts[path].axes
        assert len(axes) == len(variable.shape)
        expected = [
            "expert"
            if size == 4 and not path.endswith("lora_kernel_b")
            else None
            for size in variable.shape
        ]
        assert list(axes) == expected, path


def test_the_router_is_whole_everywhere():
    layouts = layout_map(mesh(expert=2), EXPERT_RULES)
    for variable in make().router.weights:
        assert layouts[variable.path] is None


def test_the_path_may_be_any():
    layouts = layout_map(mesh(expert=2), EXPERT_RULES)
    for prefix in (
        "experts",
        "moe/experts",
        "model/encoder/block_1/moe/experts",
    ):
        assert layouts[f"{prefix}/wi/kernel"].axes == ("expert", None, None)
    for path in ("my_experts/wi/kernel", "experts/wi/kernel/momentum"):
        assert layouts[path] is None


def test_the_model_axis_splits_the_inner_size_alone():
    layer = make(quantized=True, rank=2)
    layouts = layout_map(
        mesh(e=2, m=2), EXPERT_RULES, expert_axis="e", model_axis="m"
    )
    for path, variable in bank_variables(layer).items():
        expected = [
            "m" if size == layer.experts.hidden_dim else None
            for size in variable.shape
        ]
        received = ["m" if axis == "m" else None for axis in layouts[path].axes]
        assert received == expected, path


def test_dense_rules_and_expert_rules_never_meet():
    layer = make(quantized=True, rank=2)
    for path in bank_variables(layer):
        assert not any(re.fullmatch(rule, path) for rule in DENSE_RULES)


@pytest.mark.parametrize(
    ("message", "kwargs"),
    [
        (r"`expert_axis` must be one of the axes.*'experts'", {
            "expert_axis": "experts"}),
        (r"`model_axis` must be one of the axes.*'model'", {
            "model_axis": "model"}),
        ("must be different axes", {"model_axis": "expert"}),
        (r"divisible.*num_experts=6, 4 devices", {"num_experts": 6}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(message, kwargs):
    with pytest.raises(ValueError, match=message):
        layout_map(mesh(batch=1, expert=4), EXPERT_RULES, **kwargs)


def test_num_experts_that_divides_is_taken():
    layout_map(mesh(expert=4), EXPERT_RULES, num_experts=8)
    layout_map(mesh(model=4), EXPERT_RULES, None, "model", num_experts=6)


def test_random_features_are_laid_out():
    model = models.SwitchTransformer.from_preset(
        "switch_tiny", attention="random_feature", num_random_features=8
    )
    layouts = model.get_layout_map(mesh(expert=2, model=2), model_axis="model")
    split = 0
    for variable in model.weights:
        layout = layouts[variable.path]  # raises where two rules match
        if "random_feature_attention" not in variable.path:
            continue
        if "/features/" in variable.path:
            assert layout is None
            continue
        # By heads, of which there are two; sizes of 8 stay whole.
        axes = ["model" if size == 2 else None for size in variable.shape]
        assert list(layout.axes) == axes, variable.path
        split += 1
    assert split == 6 * 4


@pytest.mark.parametrize("quantized", [False, True])
def test_the_model_is_laid_out(quantized):
    model = models.SwitchTransformer.from_preset("switch_tiny", num_experts=6)
    if quantized:
        model.quantize("int8")
    layouts = model.get_layout_map(mesh(expert=2, model=2), model_axis="model")
    for variable in model.weights:
        layout = layouts[variable.path]  # raises where two rules match
        expert = "/experts/" in variable.path
        if layout is None:
            assert not expert, variable.path
            continue
        assert len(layout.axes) == len(variable.shape), variable.path
        assert ("expert" in layout.axes) == expert
        for axis, size in zip(layout.axes, variable.shape, strict=True):
            assert axis is None or size % 2 == 0
    whole = {
        v.path.rsplit("/", 1)[-1]
        for v in model.weights
        if layouts[v.path] is None and "router" not in v.path
    }
    assert whole <= {"scale", "table", "embeddings_scale"}


def test_the_layer_has_a_layout_map():
    layouts = layers.SparseMoE.get_layout_map(
        mesh(x=2, y=2), "y", model_axis="x", num_experts=4
    )
    assert layouts["moe/experts/wi/kernel"].axes == ("y", None, "x")
    with pytest.raises(ValueError, match=r"divisible.*'expert'.*=3, 2 dev"):
        layers.SparseMoE.get_layout_map(mesh(expert=2), num_experts=3)
