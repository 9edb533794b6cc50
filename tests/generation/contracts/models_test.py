"""Which models fulfil which contracts, and what is said of the others."""

import inspect
import types

import keras
import numpy as np
import pytest

from keras_moe import generation
from keras_moe.calibration import calibrate_exits
from keras_moe.calibration import exit_answers
from keras_moe.distillation import teacher_sequences
from keras_moe.generation import BeamSearch
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import ExitConfidence
from keras_moe.generation import Greedy
from keras_moe.generation import SelfSpeculative
from keras_moe.generation import compile_decoder
from keras_moe.generation import decode
from keras_moe.generation import decode_from
from keras_moe.layers import DecoderBlock
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import StatefulAttention
from keras_moe.layers import T5Attention
from keras_moe.models import SwitchTransformer
from keras_moe.training import EarlyExitTrainer
from keras_moe.training import ExitClassifierTrainer
from keras_moe.validation import check_contract

IDS = np.array([[5, 6, 1]])
CONTRACTS = [
    "Decodable",
    "LayerwiseDecodable",
    "ExitingDecodable",
    "Generative",
    "ExitingGenerative",
    "Exiting",
    "ExitClassifying",
]
POLICY = EarlyExitPolicy()


@pytest.fixture(scope="module")
def model():
    return SwitchTransformer.from_preset(
        "switch_tiny", num_experts=0, exit_classifier=True
    )


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_switch_transformer_fulfils(model, name):
    contract = getattr(generation, name)
    assert isinstance(model, contract)
    check_contract(contract, model=model)


def assert_callable_as(contract, value):
    """Whoever calls the contract's methods may call these."""
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("_"):
            continue
        parameters = list(inspect.signature(method).parameters.values())[1:]
        own = inspect.signature(getattr(value, name)).parameters
        positional = [
            each.name for each in parameters if each.kind != each.KEYWORD_ONLY
        ]
        assert list(own)[: len(positional)] == positional, name
        for each in parameters:
            assert each.name in own, name
            if each.default is not each.empty:
                assert own[each.name].default is not each.empty, name
        for each in own.values():
            if each.name not in {other.name for other in parameters}:
                assert each.default is not each.empty, name


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_switch_transformer_is_called_as_its_contracts_are(model, name):
    assert_callable_as(getattr(generation, name), model)


def test_layers_are_called_as_their_contracts_are(model):
    assert_callable_as(generation.DecoderStack, model.decoder)
    assert_callable_as(generation.DecoderLayer, model.decoder.blocks[0])
    for layer in (T5Attention(2, 4), RandomFeatureAttention(2, 4)):
        contract = inspect.getmembers(StatefulAttention, inspect.isfunction)
        for name, method in contract:
            if name.startswith("_"):
                continue
            own = inspect.signature(getattr(layer, name)).parameters
            asked = list(inspect.signature(method).parameters)[1:]
            assert set(asked) <= set(own), name
        asked = inspect.signature(StatefulAttention.__call__).parameters
        own = inspect.signature(layer.call).parameters
        assert set(asked) - {"self"} <= set(own)


def test_its_parts_fulfil(model):
    assert isinstance(model.config, generation.ExitConfig)
    assert isinstance(model.decoder, generation.DecoderStack)
    for block in model.decoder.blocks:
        assert isinstance(block, DecoderBlock)
        assert isinstance(block, generation.DecoderLayer)


class Minimal:
    """Decodes token by token, and nothing else."""

    def __init__(self):
        self.config = types.SimpleNamespace(pad_id=0, end_id=1, start_id=0)
        self.calls = []

    def encode(self, token_ids, training=None):
        self.calls.append("encode")
        return token_ids, token_ids != 0

    def start_from(self, memory, memory_mask, max_length, cache=None):
        self.calls.append("start_from")
        return memory

    def step(self, token_ids, position, state):
        self.calls.append("step")
        return 9.0 * keras.ops.one_hot(state[:, position], 10), state


def test_a_minimal_model_decodes():
    model = Minimal()
    assert isinstance(model, generation.Decodable)
    assert not isinstance(model, generation.LayerwiseDecodable)
    answer = decode(model, IDS, 3)
    np.testing.assert_array_equal(answer["token_ids"], IDS)


def without(name):
    """A model that lacks one method."""
    methods = dict(vars(Minimal))
    del methods[name]
    return type("Lacking", (), methods)()


@pytest.mark.parametrize("name", ["encode", "start_from", "step"])
def test_a_missing_method_is_named_before_anything_runs(name):
    model = without(name)
    message = (
        f"`model` must be Decodable: it lacks `{name}`. Received: model of "
        "type Lacking."
    )
    for refuse in (
        lambda: decode(model, IDS, 3),
        lambda: decode_from(model, IDS, IDS > 0, 3, Greedy()),
        lambda: compile_decoder(model, 3),
    ):
        with pytest.raises(ValueError, match=message):
            refuse()
    assert not model.calls


def test_missing_ids_are_named():
    model = Minimal()
    del model.config.pad_id, model.config.start_id
    message = "it lacks `config.pad_id`, `config.start_id`"
    with pytest.raises(ValueError, match=message):
        decode(model, IDS, 3)
    assert not model.calls


def test_beams_need_a_state_of_blocks():
    model = Minimal()
    message = "named tuple with `blocks`, a tuple .*Received: a EagerTensor"
    with pytest.raises(ValueError, match=message):
        decode(model, IDS, 3, BeamSearch(2))
    assert "step" not in model.calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([5, 6], 3), r"`token_ids` must have .*token_ids.shape=\(2,\)"),
        ((5, 3), r"`token_ids` must have .*token_ids.shape=\(\)"),
        ((IDS[None], 3), r"`token_ids` must have .*shape=\(1, 1, 3\)"),
        ((IDS, None), "`max_length` must be a positive integer.*None"),
        ((IDS, 0), "`max_length` must be a positive integer"),
        ((IDS, 3, None, None, 0.5), "`threshold` must be None without .*0.5"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(arguments, message):
    model = Minimal()
    with pytest.raises(ValueError, match=message):
        decode(model, *arguments)
    assert not model.calls
    if len(arguments) > 2:
        with pytest.raises(ValueError, match=message):
            decode_from(model, IDS, IDS > 0, *arguments[1:])
        assert not model.calls


def test_early_exit_needs_more():
    model = Minimal()
    message = (
        "must be ExitingDecodable: it lacks `config.num_decoder_layers`, "
        ".*`decoder`, `embed`, `logits`, `head_kernel`, `exit_confidence`"
    )
    with pytest.raises(ValueError, match=message):
        decode(model, IDS, 3, early_exit=POLICY)
    assert not model.calls
    with pytest.raises(ValueError, match=message):
        ExitConfidence(model, POLICY)


def test_self_speculation_needs_more():
    model = Minimal()
    message = "must be LayerwiseDecodable: it lacks .*`decoder`, `embed`, `log"
    with pytest.raises(ValueError, match=message):
        decode(model, IDS, 3, SelfSpeculative(1))
    assert "start_from" not in model.calls


def test_the_parts_of_a_decoder_are_named(model):
    broken = types.SimpleNamespace(
        **{
            name: getattr(model, name)
            for name in ("config", "encode", "start_from", "step", "embed")
        },
        logits=model.logits,
        decoder=types.SimpleNamespace(blocks=(), bias=None, finish=print),
    )
    with pytest.raises(
        ValueError, match="it lacks `decoder.compute_dtype`, `decoder.bias`. R"
    ):
        check_contract(generation.LayerwiseDecodable, model=broken)


def test_others_say_what_they_need():
    model = keras.Sequential([keras.layers.Dense(2)])
    received = "Received: {} of type Sequential"
    for name, refuse, lacks in (
        ("model", lambda: EarlyExitTrainer(model), "Exiting: it lacks"),
        ("model", lambda: ExitClassifierTrainer(model), "Exiting: it lacks"),
        ("teacher", lambda: teacher_sequences(model, IDS, 3), "`generate`"),
    ):
        with pytest.raises(ValueError, match=lacks) as caught:
            refuse()
        assert received.format(name) in str(caught.value)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda model: decode(model, IDS, 3),
        lambda model: next(exit_answers(model, IDS, POLICY, [0.5])),
        lambda model: calibrate_exits(model, IDS, POLICY, [0.5], max, 0.1),
    ],
    ids=["decode", "exit_answers", "calibrate_exits"],
)
def test_models_of_another_kind_are_refused_in_words(refuse):
    message = (
        "`model` must decode sequences, such as `SwitchTransformer`. "
        "Received: a Sequential model.$"
    )
    with pytest.raises(ValueError, match=message):
        refuse(keras.Sequential([keras.layers.Dense(2)]))


def test_what_an_object_lacks_is_named():
    message = "must be ExitingGenerative: it lacks `config`, `generate`"
    with pytest.raises(ValueError, match=message):
        next(exit_answers(object(), IDS, POLICY, [0.5]))


def test_a_classifier_is_asked_for_by_its_size():
    plain = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    with pytest.raises(ValueError, match="must have `exit_classifier=True`"):
        ExitClassifierTrainer(plain)
