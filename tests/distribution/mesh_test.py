import json
import re

import keras
import pytest

from keras_moe import distribution
from keras_moe.distribution._stale_reads import VARIABLE
from keras_moe.layers import SparseMoE
from tests import forked

pytestmark = pytest.mark.long

# Sums are added up in another order on a mesh.
ROUNDING = 1e-5


def found_by(*cases):
    done = forked.run_module("tests.distribution.mesh_case", *cases)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    """What the cases of the default suite found, in one process."""
    with pytest.MonkeyPatch.context() as patch:
        # So that the engine has to see to it.
        patch.delenv(VARIABLE, raising=False)
        return found_by("--unoptimized", *DEFAULT)


LAYERS = [
    f"layer('{router}', '{dispatch}', '{mesh}')"
    for router, dispatch, mesh in (
        ("switch", "gather", "2x4"),
        ("expert_choice", "gather", "2x2"),
    )
]
DEFAULT = [
    *LAYERS,
    "default_names('2x1x2')",
    "life(directory, '2x2')",
    "refusals()",
    "retrieval()",
    "retrieval(recall_target=1.0, storage='int8')",
    "stale_read()",
]


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_computes_what_one_device_does(found, case):
    assert max(found[case]) <= ROUNDING


def test_layers_without_names_lie_along_the_model_axis(found):
    check_names(found["default_names('2x1x2')"])


def check_names(case):
    assert case["gap"] <= ROUNDING
    # Half of each inner size, 8 of attention and 16 of the network.
    assert case["local_shapes"] == [[8, 4], [4, 8], [8, 8], [8, 8]] * 2


@pytest.mark.parametrize("options", ["", "recall_target=1.0, storage='int8'"])
def test_each_device_searches_its_own_candidates(found, options):
    case = found[f"retrieval({options})"]
    assert case["gap"] <= ROUNDING
    assert case["same"] and case["broken"] == 6
    assert case["local_shape"] == [208, 8]


@pytest.mark.large
def test_any_layer_computes_what_one_device_does():
    cases = [
        f"layer({router!r}, {dispatch!r}, {mesh!r}, {masked})"
        for router, dispatch, mesh, masked in (
            ("switch", "einsum", "2x2x2", True),
            ("switch", "gather", "1x8", False),
            ("top_2", "gather", "2x4", True),
            ("top_2", "einsum", "1x8", True),
            ("expert_choice", "einsum", "1x8", True),
            ("hash", "gather", "2x4", True),
            ("soft", "einsum", "2x4", True),
        )
    ]
    differences = {case: max(d) for case, d in found_by(*cases).items()}
    assert max(differences.values()) <= ROUNDING, differences


@pytest.mark.large
def test_attention_through_random_features_trains_as_on_one_device():
    cases = [
        "attention(False)",
        "attention(False, exact_below='auto')",
        "attention(True, 8, '2x4')",
        "attention(True, 300)",
    ]
    differences = found_by(*cases)
    assert max(differences.values()) <= ROUNDING, differences


@pytest.mark.large
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ("", ROUNDING),
        ("global_clipnorm=0.1", ROUNDING),
        ("clipnorm=0.01, weight_decay=0.1", ROUNDING),
        ("gradient_accumulation_steps=2", ROUNDING),
        ("steps_per_execution=3", ROUNDING),
        # A last bit of bfloat16 in a sum of logits.
        ("dtype='mixed_bfloat16'", 2e-2),
    ],
)
def test_fit_is_that_of_one_device(options, tolerance):
    case = f"fit('2x4', {options})"
    differences = found_by(case)[case]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= {*differences}
    assert max(differences.values()) <= tolerance, differences


@pytest.mark.large
def test_a_loop_of_ones_own_is_that_of_one_device():
    assert found_by("own_loop()")["own_loop()"] <= ROUNDING


def test_a_model_on_a_mesh_lives_as_any_other(found):
    check_life(found["life(directory, '2x2')"], experts=4)


@pytest.mark.large
def test_on_meshes_of_all_devices():
    names, life = "default_names('2x2x2')", "life(directory, '2x4')"
    found = found_by(names, life)
    check_names(found[names])
    check_life(found[life], experts=2)


def check_life(life, experts):
    """Of 8 experts, each device has so many."""
    assert life["as_before"] == 0.0
    assert life["local_shapes"] == [[experts, 8, 16], [experts, 16, 8]]
    assert life["local_slots"] == [[experts, 8, 16]] * 2
    assert life["rows_of_predictions"] == 16
    assert life["predict_on_batch"] <= ROUNDING
    for where in (None, "1x8", "2x2x2"):
        assert life[f"restored_on_{where}"] == 0.0
    assert life["step"] == 4
    assert life["plain"]
    for how in ("gathered", "evaluated", "loaded", "served"):
        assert life[how] <= ROUNDING, how


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mesh", "batch=3, expert=3, model=1 needs 9 devices. Found: 8"),
        ("devices", "`devices` must name batch \\* expert \\* model = 2"),
        ("rows", "Received: 3 rows, 2 devices"),
        ("optimizer", "`optimizer` must be given"),
        ("unmatched", "none for 'moe/experts/wi/kernel'"),
        ("rank", "must have 2 axes"),
        ("twice", "matches multiple layout"),
        ("indivisible", "6 is not divisible by the 4 devices"),
        ("groups", "Groups must be spread evenly over 8 devices"),
        ("dense", "Use covariance='per_dimension'"),
        ("own_step", "LocoProp, which has its own `train_step`"),
        ("perturbed", "Distiller, which has its own `train_step`"),
        ("eager", "run_eagerly=True"),
    ],
)
def test_what_cannot_be_done_is_refused(found, name, message):
    assert re.search(message, found["refusals()"][name])


def test_a_distiller_that_trains_as_keras_does_is_not_refused(found):
    assert "plain_distiller" not in found["refusals()"]


def test_a_refused_model_is_left_alone(found):
    assert found["refusals()"]["left_alone"]


def test_the_engine_lets_nothing_be_read_before_it_is_written(found):
    got, wanted = found["stale_read()"]
    assert got == wanted


@pytest.mark.parametrize("kind", ["batch", "expert", "model"])
def test_sizes_of_a_mesh_are_positive(kind):
    with pytest.raises(ValueError, match=f"`{kind}` must be"):
        distribution.device_mesh(**{kind: 0})


def test_an_engine_takes_meshes_and_layout_maps_alone():
    with pytest.raises(ValueError, match="DeviceMesh or a keras.*LayoutMap"):
        distribution.engine({"kernel": ("expert",)})


def test_what_keras_would_ignore_is_refused():
    mesh = distribution.device_mesh(devices=["cpu:0"])
    layouts = keras.distribution.LayoutMap(mesh)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layouts)
    )
    try:
        with pytest.raises(RuntimeError, match="backend ignores"):
            distribution.engine(layouts)
        with pytest.raises(RuntimeError, match="backend ignores"):
            SparseMoE(num_experts=2, hidden_dim=4).build((None, 4, 8))
    finally:
        keras.distribution.set_distribution(None)
