"""Beam chooses what a selector chooses in memory."""

import json

import keras
import numpy as np
import pytest
from tfx.types import standard_artifacts

from keras_moe import data
from keras_moe.components.data._subset_selector import SubsetSelectorExecutor
from tests.components.artifacts_of import artifact
from tests.components.data import pool_case as case
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

SETTINGS = {
    "budget": 20,
    "key": "name",
    "label_key": "label",
    "signature_name": "classify",
    "output": "probabilities",
    "splits": ["train"],
    "seed": 3,
    "round": 1,
    "num_shards": 3,
    "batch_size": 7,
}
ENTROPY = data.ImportanceSelector("entropy")
DRAW = data.RandomSelector()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return [
        case.save(kernel, tmp_path_factory.mktemp("model"))
        for kernel in case.KERNELS
    ]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rows = [case.example(row) for row in range(60)]
    uri = tmp_path_factory.mktemp("pool")
    return case.write(uri, {"train": rows[:50], "eval": rows[50:]})


def run(selector, models, examples, place, context=None, **changed):
    made = artifact(standard_artifacts.Examples, f"{place}/chosen")
    inputs = {"examples": [examples]}
    names = ("model", "other_model")
    inputs |= {n: [m] for n, m in zip(names, models, strict=False)}
    config = keras.saving.serialize_keras_object(selector)
    settings = SETTINGS | {"selector": config} | changed
    SubsetSelectorExecutor(context).Do(
        inputs,
        {"selected_examples": [made]},
        {"settings": json.dumps(settings)},
    )
    return made


@pytest.fixture(scope="module")
def by_entropy(models, pool, tmp_path_factory):
    """What is chosen from the pool; to read alone."""
    return run(ENTROPY, models[:1], pool, tmp_path_factory.mktemp("entropy"))


@pytest.fixture(scope="module")
def by_chance(pool, tmp_path_factory):
    """As `by_entropy`."""
    return run(DRAW, [], pool, tmp_path_factory.mktemp("chance"))


@pytest.mark.parametrize(
    "selector",
    [
        DRAW,
        data.MarginSelector(),
        pytest.param(data.EntropySelector(), marks=pytest.mark.large),
        ENTROPY,
        data.ImportanceSelector("disagreement", weight_cap=2.0),
    ],
    ids=lambda each: f"{type(each).__name__}-{getattr(each, 'mode', '')}",
)
def test_chooses_what_is_chosen_in_memory(
    selector, models, pool, by_entropy, by_chance, tmp_path
):
    made = {ENTROPY: by_entropy, DRAW: by_chance}.get(selector)
    if made is None:
        made = run(selector, models[: selector.num_models], pool, tmp_path)
    functions = tuple(
        lambda rows, kernel=kernel: case.answers(kernel, rows)
        for kernel in case.KERNELS[: selector.num_models]
    )
    rows = np.arange(50)
    expected = selector.select(
        functions,
        (rows, case.LABELS[:50]),
        budget=20,
        seed=3,
        round=1,
        keys=case.NAMES[:50],
    )
    found = {
        each["name"][0].decode(): each["example_weight"][0]
        for each in case.read(made, "train")
    }
    wanted = {
        case.NAMES[row]: weight for row, weight in zip(*expected, strict=True)
    }
    assert found == pytest.approx(wanted, rel=1e-5)
    assert made.get_int_custom_property("examples") == 20
    assert made.get_int_custom_property("pool") == 50
    assert made.get_int_custom_property("topped_up") == 0
    # Nothing else of an example, or of other splits, is touched.
    for each in case.read(made, "train"):
        row = case.NAMES.index(each["name"][0].decode())
        np.testing.assert_array_equal(each["x"], case.X[row])
    assert case.read(made, "eval") == case.read(pool, "eval")
    assert (
        made.get_string_custom_property("payload_format") == "FORMAT_TF_EXAMPLE"
    )


def test_files_do_not_depend_on_workers_or_the_order(
    by_entropy, models, tmp_path
):
    rows = [case.example(row) for row in range(60)]
    backwards = case.write(
        tmp_path / "backwards",
        {"train": rows[49::-1], "eval": rows[50:]},
        files=5,
    )
    three = run(
        ENTROPY, models[:1], backwards, tmp_path / "three", case.MANY_WORKERS
    )

    def chosen(made):
        return {k: v for k, v in case.content(made).items() if "eval" not in k}

    assert chosen(by_entropy) == chosen(three)
    names = sorted(
        name for name in chosen(by_entropy) if name.startswith("Split")
    )
    assert names == [
        f"Split-train/examples-{shard:05d}-of-00003.gz" for shard in range(3)
    ]


def test_other_rounds_have_other_draws(by_chance, pool, tmp_path):
    first = run(DRAW, [], pool, tmp_path, round=0)
    found = [
        {each["name"][0] for each in case.read(made, "train")}
        for made in (first, by_chance)
    ]
    assert len(found[0]) == len(found[1]) == 20
    assert found[0] != found[1]


def test_a_pool_of_several_splits_and_shards_without_rows(pool, tmp_path):
    made = run(
        DRAW,
        [],
        pool,
        tmp_path,
        splits=["train", "eval"],
        budget=4,
        num_shards=9,
    )
    both = [case.read(made, split) for split in ("train", "eval")]
    assert sum(map(len, both)) == 4
    assert len([name for name in case.content(made) if "Split" in name]) == 18


def test_a_starved_round_is_topped_up(models, tmp_path):
    rows = [case.example(row) for row in range(30)]
    for row in rows[4:]:
        # Too far out for the model to be in doubt.
        values = row.features.feature["x"].float_list.value
        values[:] = [1e6 * value for value in values]
    made = run(
        ENTROPY,
        models[:1],
        case.write(tmp_path / "pool", {"train": rows}),
        tmp_path,
        budget=10,
    )
    assert made.get_int_custom_property("topped_up") == 6
    chosen = case.read(made, "train")
    assert len(chosen) == 10
    assert {name.encode() for name in case.NAMES[:4]} <= {
        each["name"][0] for each in chosen
    }


def test_keys_that_repeat_or_are_missing(models, tmp_path):
    rows = [case.example(row) for row in range(20)]
    rows += [case.example(20, name="row 3"), case.example(21, name=False)]
    rows += [case.example(row) for row in range(3)]
    made = run(
        DRAW,
        [],
        case.write(tmp_path / "pool", {"train": rows}),
        tmp_path,
        budget=12,
    )
    assert made.get_int_custom_property("repeated_keys") == 4
    assert made.get_int_custom_property("without_key") == 1
    assert len(case.read(made, "train")) == 12


@pytest.mark.parametrize(
    ("budget", "content"),
    [
        (3, [0, 1, 2, 3]),
        *(
            pytest.param(*each, marks=pytest.mark.large)
            for each in [
                (1, [0, 1, 2, 3]),
                (1, [0, 0, 1, 1]),
                (3, [0, 0, 1, 1]),
            ]
        ),
    ],
)
def test_a_budget_that_ends_within_a_key(budget, content, tmp_path):
    names = [case.NAMES[number] for number in (0, 0, 1, 1)]
    rows = [case.example(*row) for row in zip(content, names, strict=True)]
    there, back = (
        case.read(
            run(DRAW, [], pool, pool.uri, budget=budget),
            "train",
        )
        for pool in (
            case.write(tmp_path / "there", {"train": rows}),
            case.write(tmp_path / "back", {"train": rows[::-1]}),
        )
    )
    assert there == back
    in_memory, _ = DRAW.select(
        None, np.arange(4), budget, seed=3, round=1, keys=names
    )
    found = sorted(each["name"][0].decode() for each in there)
    assert found == sorted(names[row] for row in in_memory)


def test_weights_of_rounds_before_are_in_the_files(tmp_path):
    half = case.tf.train.FloatList(value=[0.5])
    rows = [case.example(row, example_weight=half) for row in range(20)]
    pool = case.write(tmp_path / "pool", {"train": rows})
    made = run(DRAW, [], pool, tmp_path, budget=5)
    found = [each["example_weight"] for each in case.read(made, "train")]
    assert found == [[0.5]] * 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"budget": 51}, "from 1 to the pool's 50 rows. Received: budget=51"),
        ({"key": "nome"}, "None of 50 examples has such a feature 'nome'"),
        ({"splits": ["dev"]}, r"must be splits of .*Received: \['dev'\]"),
        ({"signature_name": "no"}, "must be a signature of the model: .*cla"),
        ({"output": "no"}, "must have an output `no`. Received: logits, p"),
        ({"output": "logits"}, "make the selector with `from_logits=True`"),
    ],
)
def test_bad_settings_write_nothing(changed, message, models, pool, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(ENTROPY, models[:1], pool, tmp_path, **changed)
    assert not list((tmp_path / "chosen").rglob("*.gz"))


def test_examples_without_a_label_or_that_the_model_cannot_read(
    models, tmp_path
):
    rows = [case.example(row) for row in range(20)]
    rows[7] = case.example(7, label=False)
    pool = case.write(tmp_path / "pool", {"train": rows})
    both = data.ImportanceSelector("disagreement")
    with pytest.raises(ValueError, match="one integer 'label'. .*b'row 7' has"):
        run(both, models, pool, tmp_path)
    del rows[9].features.feature["x"]
    pool = case.write(tmp_path / "pool", {"train": rows})
    with pytest.raises(ValueError, match="fails on that with the key b'row 9'"):
        run(ENTROPY, models[:1], pool, tmp_path)


def test_in_a_remote_store(
    by_entropy, models, pool, remote, tmp_path, monkeypatch
):
    # Beam leaves files of its own, which say nothing of ours.
    temporary = tmp_path / "beam"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    there = run(
        ENTROPY,
        [moved(models[0], f"{remote}/model")],
        moved(pool, f"{remote}/pool"),
        remote,
    )
    for name in ("examples", "pool", "topped_up"):
        one, other = (
            m.get_int_custom_property(name) for m in (by_entropy, there)
        )
        assert one == other
    assert not [*temporary.rglob("*.gz"), *temporary.rglob("selection.json")]
