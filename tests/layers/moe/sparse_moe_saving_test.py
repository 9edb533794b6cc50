import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from tests.layers.layer_test_case import run_layer_test
from tests.layers.moe.sparse_moe_case import DIM
from tests.layers.moe.sparse_moe_case import data
from tests.layers.moe.sparse_moe_case import small_model


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, marks=pytest.mark.large),
        {"gated": True, "use_bias": True, "expert_dropout_rate": 0.1},
    ],
)
def test_keras_layer_contract(arguments):
    run_layer_test(
        layers.SparseMoE,
        {"num_experts": 3, "hidden_dim": 8, **arguments},
        input_shape=(2, 5, 4),
        expected_output_shape=(2, 5, 4),
        expected_num_losses=1,
        supports_masking=True,
    )


def test_keras_file_round_trip(tmp_path, run_eagerly):
    router = layers.SwitchRouter(
        capacity_factor=2.0,
        eval_capacity_factor=1.5,
        min_expert_capacity=2,
        capacity_rounding="nearest",
        group_size=3,
        jitter_noise=0.05,
        load_balancing_loss_weight=0.1,
        router_z_loss_weight=0.2,
        kernel_initializer="he_normal",
        seed=5,
        name="mine",
    )
    model = small_model(
        router=router,
        activation="gelu",
        gated=True,
        use_bias=True,
        expert_dropout_rate=0.2,
        kernel_initializer="he_uniform",
        bias_initializer="ones",
    )
    model.compile("adam", "mse", jit_compile=False, run_eagerly=run_eagerly)
    x = data(4, 3)
    model.fit(x, x, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(x), model(x))
    first = loaded.get_layer("first")
    assert first.get_config() == model.get_layer("first").get_config()
    assert first.router.get_config()["seed"] == 5
    assert first.router.get_config() == router.get_config()
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    loaded.fit(x, x, verbose=0)


@keras.saving.register_keras_serializable("keras_moe_tests")
class HalvingRouter(layers.SwitchRouter):
    """A router from outside, with an argument of its own."""

    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def route(self, logits, padding_mask=None, training=None):
        return super().route(logits / self.temperature, padding_mask, training)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


def test_a_router_of_ones_own_survives(tmp_path):
    model = small_model(router=HalvingRouter(temperature=0.5))
    x = data(2, 3)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert isinstance(loaded.get_layer("first").router, HalvingRouter)
    assert loaded.get_layer("first").router.temperature == 0.5
    np.testing.assert_array_equal(loaded(x), model(x))


def test_weights_file_round_trip(tmp_path):
    one, other = small_model(), small_model()
    path = tmp_path / "x.weights.h5"
    one.save_weights(path)
    other.load_weights(path)
    x = data(2, 3)
    np.testing.assert_array_equal(one(x), other(x))


def test_clone_model():
    model = small_model(router=HalvingRouter(temperature=0.5))
    clone = keras.models.clone_model(model)
    mine = clone.get_layer("first").router
    assert mine.temperature == 0.5
    assert mine is not model.get_layer("first").router
    clone.set_weights(model.get_weights())
    x = data(2, 3)
    np.testing.assert_array_equal(clone(x), model(x))


def test_saved_model_serves_any_shape(tmp_path):
    inputs = keras.Input((None, DIM))
    model = keras.Model(inputs, layers.SparseMoE(4, 8)(inputs))
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    for shape in ((1, 1), (3, 4)):
        x = data(*shape)
        np.testing.assert_allclose(served.serve(x), model(x), atol=1e-5)
