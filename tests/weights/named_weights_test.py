import gc
import random

import keras
import numpy as np
import pytest

from keras_moe.training._build_state import build_state
from keras_moe.weights import fingerprint
from keras_moe.weights import named_state
from keras_moe.weights import named_weights
from keras_moe.weights import transfer
from tests import forked
from tests.training.example_model import X
from tests.training.example_model import Y
from tests.training.example_model import make_built_model
from tests.training.example_model import values_of


class Blocks(keras.Model):
    """Layers of one name in a list and a dictionary, one of them twice."""

    def __init__(self, count=3):
        super().__init__()
        self.blocks = [keras.layers.Dense(2, name="same") for _ in range(count)]
        self.by_name = {"a": keras.layers.Dense(2), "b": self.blocks[0]}
        self.loss_ = keras.metrics.Mean(name="mean")
        self.also_loss = keras.metrics.Mean(name="mean")
        self.scale = self.add_weight(shape=(), name="scale")
        self.unnamed = keras.Variable(1.0)

    def call(self, x):
        for block in (*self.blocks, *self.by_name.values()):
            x = block(x)
        return x * self.scale


def test_every_variable_has_one_name():
    model = make_built_model()
    named = named_state(model)
    expected = [
        *model.variables, *model.optimizer.variables, *model.metrics_variables
    ]  # fmt: skip
    assert {id(v) for v in named.values()} == {id(v) for v in expected}
    assert len(named) == len({id(v) for v in expected})
    assert "model/dropout/seed_generator_state" in named
    assert "model/sparse_moe/bias_balanced_router/expert_bias" in named
    assert (
        "metrics/sparse_moe/bias_balanced_router/expert_load_cv/counts" in named
    )
    assert "optimizer/model/sequential/dense#1/kernel/momentum" in named
    assert "metrics/compile_metrics/mean_squared_error#1/total" in named
    assert "metrics/loss/total" in named


def test_names_do_not_depend_on_what_was_made_before():
    first = make_built_model()
    for _ in range(3):
        keras.Sequential([keras.Input([2]), keras.layers.Dense(2)])
        keras.random.SeedGenerator()
    second = make_built_model()
    assert first.name != second.name
    assert list(named_state(first)) == list(named_state(second))
    keras.backend.clear_session()
    third = make_built_model()
    assert list(named_state(first)) == list(named_state(third))


def test_names_survive_a_keras_file(tmp_path):
    model = make_built_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    build_state(loaded, (X, Y))
    assert list(named_state(loaded)) == list(named_state(model))
    for name, value in values_of(model).items():
        if name.startswith("model/") and "seed" not in name:
            assert np.array_equal(value, named_state(loaded)[name]), name


def test_equal_names_are_told_apart_by_order():
    Blocks()
    model = Blocks()
    model.compile("sgd", "mse")
    build_state(model, (X[0, :, :2], Y[0, :, :2]))
    named = named_state(model)
    for number, block in enumerate(model.blocks):
        suffix = f"#{number}" if number else ""
        assert named[f"model/same{suffix}/kernel"] is block.kernel
    assert named["model/dense/bias"] is model.by_name["a"].bias
    assert named["model/scale"] is model.scale
    assert named["model/variable"] is model.unnamed
    assert named["metrics/mean/total"] is model.loss_.variables[0]
    assert named["metrics/mean#1/total"] is model.also_loss.variables[0]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.AdamW(use_ema=True),
        lambda: keras.optimizers.Adafactor(),
        lambda: keras.optimizers.SGD(gradient_accumulation_steps=2),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    ],
)
def test_optimizers(optimizer):
    names = []
    for _ in range(2):
        model = Blocks()
        model.compile(optimizer(), "mse")
        build_state(model, (X[0, :, :2], Y[0, :, :2]))
        found = {id(v) for v in named_state(model).values()}
        assert {id(v) for v in model.optimizer.variables} <= found
        names.append(list(named_state(model)))
    assert names[0] == names[1]


def test_losses_of_outputs_are_not_counted():
    names = []
    for _ in range(2):
        inputs = keras.Input([2])
        outputs = [
            keras.layers.Dense(1)(inputs),
            keras.layers.Dense(1)(inputs),
            keras.layers.Dense(1, name="own_3")(inputs),
        ]
        model = keras.Model(inputs, outputs)
        model.compile("sgd", ["mse"] * 3)
        build_state(model, (X[0, :, :2], [Y[0, :, :1]] * 3))
        assert model.output_names[0] not in names
        names.append(model.output_names[0])
        found = [n for n in named_state(model) if n.endswith("loss/total")]
        assert found == [
            "metrics/loss/total",
            "metrics/dense_loss/total",
            "metrics/dense#1_loss/total",
            "metrics/own_3_loss/total",
        ]


def test_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="`model` must be built"):
        named_state(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match="`model` must be built"):
        named_weights(keras.Sequential([keras.layers.Dense(1)]))


def test_state_has_the_names_of_weights():
    model = make_built_model()
    state = named_state(model)
    weights = named_weights(model)
    assert {id(v) for v in weights.values()} == {id(v) for v in model.variables}
    for name, variable in weights.items():
        assert state[f"model/{name}"] is variable
    assert sum(name.startswith("model/") for name in state) == len(weights)


def test_a_users_numbers_are_kept():
    # `Layer` and `Model` are bases, from whose names Keras makes none.
    names = ["layer_1", "model_2", "same_dense_3", "dense_4"]
    model = keras.Sequential(
        [keras.Input([2]), *(keras.layers.Dense(2, name=n) for n in names)]
    )
    kernels = [n for n in named_weights(model) if n.endswith("kernel")]
    assert kernels == [
        "layer_1/kernel",
        "model_2/kernel",
        "same_dense_3/kernel",
        "dense/kernel",
    ]


def test_layers_that_run_both_ways_are_not_counted(tmp_path):
    def make():
        way_back = keras.layers.GRU(2, go_backwards=True, name="back_3")
        return keras.Sequential(
            [
                keras.Input([4, 3]),
                keras.layers.Bidirectional(
                    keras.layers.LSTM(2, return_sequences=True)
                ),
                keras.layers.Bidirectional(
                    keras.layers.GRU(2), backward_layer=way_back
                ),
            ]
        )

    first = make()
    keras.layers.LSTM(2), keras.layers.GRU(2)
    second = make()
    assert first.layers[0].forward_layer.name != (
        second.layers[0].forward_layer.name
    )
    names = list(named_weights(first))
    assert list(named_weights(second)) == names
    assert {name.rpartition("/")[0] for name in names} == {
        "bidirectional/forward_lstm/lstm_cell",
        "bidirectional/backward_lstm/lstm_cell",
        "bidirectional#1/forward_gru/gru_cell",
        "bidirectional#1/back_3/gru_cell",
    }
    transfer(first, second)
    first.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert list(named_weights(loaded)) == names
    assert fingerprint(loaded) == fingerprint(first)


def test_shared_layers_are_named_once():
    shared = keras.layers.Dense(2, name="shared")
    inner = keras.Sequential([keras.Input([2]), shared], name="inner")
    inputs = keras.Input([2])
    x = keras.layers.Dense(2, name="other")(inner(shared(inputs)))
    model = keras.Model(inputs, x)
    assert list(named_weights(model)) == [
        "shared/kernel",
        "shared/bias",
        "other/kernel",
        "other/bias",
    ]


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
@pytest.mark.parametrize("adapted", ["int8", "lora"])
def test_adapted_layers(adapted, tmp_path):
    def names(model):
        named = named_weights(model)
        assert {id(v) for v in named.values()} >= {id(w) for w in model.weights}
        return set(named)

    model = keras.Sequential([keras.Input([4])])
    for _ in range(2):
        model.add(keras.layers.Dense(4))
    plain = names(model)
    gc.freeze()  # Keras collects garbage after each kernel that it replaces.
    if adapted == "int8":
        model.quantize("int8")
        new = {"dense/kernel_scale", "dense#1/kernel_scale"}
    else:
        model.layers[1].enable_lora(2)
        new = {"dense#1/lora_kernel_a", "dense#1/lora_kernel_b"}
    assert names(model) == plain | new
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert names(loaded) == plain | new


@pytest.mark.parametrize("seed", range(8))
def test_any_graph_keeps_its_names_in_a_file(seed, tmp_path):
    choose = random.Random(seed)
    layers = [keras.layers.Dense(3) for _ in range(choose.randint(2, 5))]
    inner = [keras.layers.Dense(3) for _ in range(2)]
    layers.append(keras.Sequential([keras.Input([3]), *inner]))
    inputs = keras.Input([3])
    tensors = [inputs]
    # Layers in any order, unused, used twice, and joined across branches.
    for layer in choose.choices(layers, k=8):
        x = choose.choice(tensors)
        if choose.random() < 0.5:
            x = keras.layers.Add()([x, choose.choice(tensors)])
        tensors.append(layer(x))
    outputs = [tensors[-1], *choose.sample(tensors[1:], k=2)]
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    named, again = named_weights(model), named_weights(loaded)
    assert list(named) == list(again)
    for name, variable in named.items():
        np.testing.assert_array_equal(variable, again[name], err_msg=name)
    assert fingerprint(model) == fingerprint(loaded)


IN_ANOTHER_PROCESS = """
import keras
from keras_moe.weights import named_state, named_weights
from tests.training.example_model import make_built_model

keras.layers.Dense(2), keras.random.SeedGenerator()
model = make_built_model()
print([list(named_weights(model)), list(named_state(model))])
"""


def test_names_in_another_process():
    done = forked.run_text(IN_ANOTHER_PROCESS)
    assert done.returncode == 0, done.stderr
    model = make_built_model()
    expected = [list(named_weights(model)), list(named_state(model))]
    assert done.stdout.strip() == str(expected)
