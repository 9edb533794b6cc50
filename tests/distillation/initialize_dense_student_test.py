"""A student that starts with what its teacher knows."""

import gc

import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.distillation import initialize_dense_student
from keras_moe.distillation._teacher_blocks import spread_evenly
from keras_moe.keras_internals import flatten_layers
from keras_moe.models import SwitchTransformer

DIM, HIDDEN, EXPERTS = 6, 10, 3
# Attributes of experts to names of layers, in paths.
PARTS = {"inner": "wi", "outer": "wo"}


def transformer(**sizes):
    model = SwitchTransformer.from_preset("switch_tiny", **sizes)
    for weight in model.weights:  # ones and zeros are no evidence
        weight.assign(np.random.normal(size=weight.shape))
    return model


def dense(**sizes):
    return transformer(num_experts=0, **sizes)


def by_path(model):
    """By names of Keras: those of layers here are all given."""
    return {
        weight.path.removeprefix(f"{model.name}/"): weight.numpy()
        for weight in model.weights
    }


def sparse_sites(model):
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, layers.SparseMoE)
    ]


def ids():
    tokens = np.random.randint(2, 32, (4, 5))
    return {"encoder_token_ids": tokens, "decoder_token_ids": tokens}


def functional(kind, name="network"):
    """Two networks between layers; the first is sparse in a teacher."""
    x = inputs = keras.Input((None, DIM))
    x = x + layers.FeedForward(HIDDEN, use_bias=True, name="first")(x)
    if kind == "sparse":
        second = layers.SparseMoE(
            EXPERTS, HIDDEN, use_bias=True, router="switch", name=name
        )
    else:
        second = layers.FeedForward(HIDDEN, use_bias=True, name=name)
    x = x + second(x)
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(x))
    for weight in model.weights:
        weight.assign(np.random.normal(size=weight.shape))
    return model


# === Transformers ===


def test_all_but_the_experts_is_copied():
    teacher, student = transformer(), dense()
    given, before = by_path(teacher), by_path(student)
    report = initialize_dense_student(teacher, student)
    after = by_path(student)
    fresh = {
        f"{stack}/block_1/feed_forward/{part}/kernel"
        for stack in ("encoder", "decoder")
        for part in ("wi", "wo")
    }
    assert fresh < set(after)
    for path, value in after.items():
        expected = before if path in fresh else given
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
        assert np.array_equal(value, before[path]) == (path in fresh), path
    assert set(report.fresh) == fresh
    assert report.merged == ()
    assert len(report.copied) == len(after) - len(fresh)
    assert {*report.copied, *report.fresh} == set(after)
    assert set(report.unused) == {
        path for path in given if "/sparse_moe/" in path
    }
    # The teacher is as it was.
    for path, value in by_path(teacher).items():
        np.testing.assert_array_equal(value, given[path])


def test_a_report_can_be_read():
    teacher, student = transformer(), dense()
    text = str(initialize_dense_student(teacher, student, "average"))
    copied = len(student.weights) - 4
    assert text == (
        f"copied: {copied} weights\n"
        "merged: 4: encoder/block_1/feed_forward/wi/kernel, "
        "encoder/block_1/feed_forward/wo/kernel, "
        "decoder/block_1/feed_forward/wi/kernel, "
        "decoder/block_1/feed_forward/wo/kernel\n"
        "fresh: none\n"
        "unused: 2: encoder/block_1/sparse_moe/router/kernel, "
        "decoder/block_1/sparse_moe/router/kernel"
    )


def test_a_dense_teacher_is_copied_whole():
    teacher, student = dense(), dense()
    report = initialize_dense_student(teacher, student)
    assert len(report.copied) == len(student.weights)
    assert report.unused == ()
    inputs = ids()
    np.testing.assert_array_equal(student(inputs), teacher(inputs))


@pytest.mark.parametrize(
    ("number", "depth", "chosen"),
    [
        (1, 1, (1,)),
        (1, 4, (4,)),
        (2, 4, (1, 4)),
        (3, 8, (1, 4, 8)),
        (3, 6, (1, 3, 6)),
        (6, 12, (1, 3, 5, 7, 9, 12)),
        (4, 4, (1, 2, 3, 4)),
        (3, 2, ()),
    ],
)
def test_blocks_are_spread_evenly(number, depth, chosen):
    assert spread_evenly(number, depth) == chosen


@pytest.mark.parametrize("number", range(1, 13))
def test_blocks_are_never_chosen_twice(number):
    for depth in range(number, 13):
        chosen = spread_evenly(number, depth)
        assert list(chosen) == sorted(set(chosen))
        assert len(chosen) == number
        assert chosen[-1] == depth
        if number > 1:
            assert chosen[0] == 1
            gaps = np.diff(chosen)
            assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    "chosen", [None, {"decoder": [3, 2]}, {"decoder": [3, 3]}]
)
def test_fewer_blocks(chosen):
    teacher = transformer(num_encoder_layers=3, num_decoder_layers=3)
    student = dense(num_encoder_layers=2, num_decoder_layers=2)
    before, given = by_path(student), by_path(teacher)
    report = initialize_dense_student(teacher, student, layers=chosen)
    chosen_blocks = {"encoder": (1, 3), "decoder": (1, 3), **(chosen or {})}
    for path, value in by_path(student).items():
        theirs, sparse = path, False
        for stack, blocks in chosen_blocks.items():
            for index, block in enumerate(blocks):
                ours = f"{stack}/block_{index}/"
                if path.startswith(ours):
                    theirs = path.replace(ours, f"{stack}/block_{block - 1}/")
                    # The teacher's second block alone has experts.
                    sparse = block == 2 and "/feed_forward/" in path
        expected = before[path] if sparse else given[theirs]
        np.testing.assert_array_equal(value, expected, err_msg=path)
    assert len(report.fresh) == 2 * chosen_blocks["decoder"].count(2)


@pytest.mark.parametrize("how", ["average", "most_used", "weighted_average"])
def test_networks_are_made_of_experts(how):
    teacher, student = transformer(), dense()
    teacher(ids())
    report = initialize_dense_student(teacher, student, how)
    after = by_path(student)
    assert len(report.merged) == 4
    assert report.fresh == ()
    assert len(sparse_sites(teacher)) == 2
    for site in sparse_sites(teacher):
        load = np.asarray(site.router.expert_load.load())
        shares = {
            "average": np.full(4, 0.25),
            "most_used": np.eye(4)[load.argmax()],
            "weighted_average": load,
        }[how]
        path = site.path.removeprefix(f"{teacher.name}/").replace(
            "sparse_moe", "feed_forward"
        )
        for part, name in PARTS.items():
            experts = np.asarray(getattr(site.experts, part).kernel)
            np.testing.assert_allclose(
                after[f"{path}/{name}/kernel"],
                np.tensordot(shares, experts, axes=1),
                rtol=1e-5,
                atol=1e-6,
            )


# === Other models ===


@pytest.mark.parametrize(
    ("teacher_name", "student_name"),
    [
        ("network", "network"),
        ("sparse_moe", "feed_forward"),
        ("sparse_moe_1", "feed_forward_1"),
    ],
)
def test_layers_are_matched_by_name(teacher_name, student_name):
    teacher = functional("sparse", teacher_name)
    student = functional("dense", student_name)
    report = initialize_dense_student(teacher, student, "average")
    given, after = by_path(teacher), by_path(student)
    (site,) = sparse_sites(teacher)
    for path, value in after.items():
        if not path.startswith(f"{student_name}/"):
            np.testing.assert_array_equal(value, given[path])
    for part, path in PARTS.items():
        bank = getattr(site.experts, part)
        for name, values in (
            ("kernel", np.mean(bank.kernel, axis=0)),
            ("bias", np.mean(bank.bias, axis=(0, 1))),
        ):
            np.testing.assert_allclose(
                after[f"{student_name}/{path}/{name}"], values, atol=1e-6
            )
    assert (len(report.copied), len(report.merged)) == (6, 4)
    student = functional("dense", student_name)
    report = initialize_dense_student(teacher, student)
    assert (len(report.copied), len(report.fresh)) == (6, 4)


def test_a_most_used_expert_computes_what_it_did():
    teacher, student = functional("sparse"), functional("dense")
    (site,) = sparse_sites(teacher)
    site.router.kernel.assign(np.zeros(site.router.kernel.shape))
    x = np.random.normal(size=(2, 5, DIM)).astype("float32")
    teacher(x)  # all to the first, with a third each
    initialize_dense_student(teacher, student, "most_used")
    dense_network = student.get_layer("network")
    np.testing.assert_allclose(
        dense_network(x) / EXPERTS, site(x), rtol=1e-4, atol=1e-4
    )


# === Refusals ===


def quantized(model):
    gc.freeze()
    model.quantize("int8")
    return model


def unbuilt():
    return keras.Sequential([layers.FeedForward(4, name="network")])


@pytest.mark.parametrize(
    ("teacher", "student", "options", "message"),
    [
        ({}, {}, {"feed_forward": "mean"}, "`feed_forward` must be one of"),
        ({}, {}, {"feed_forward": "most_used"}, "call the layer on data"),
        ({}, {"num_experts": 4}, {}, "`student` must be dense.*4 experts"),
        ({}, {"vocabulary_size": 40}, {}, "vocabulary_size=32 of the te.*40"),
        (
            {"target_vocabulary_size": 16},
            {"target_vocabulary_size": 17},
            {},
            "output_size=16 of the teacher, 17",
        ),
        ({}, {"pad_id": 3}, {}, "pad_id=0 of the teacher, 3 of the student"),
        ({}, {"end_id": 3}, {}, "end_id=1 of the teacher, 3 of the student"),
        ({}, {"model_dim": 8}, {}, r"\(32, 8\) float32 \(is \(32, 16\) float"),
        (
            {},
            {"hidden_dim": 24},
            {},
            r"block_0/feed_forward/wi/kernel \(16, 24\) .*\(is \(16, 32\)",
        ),
        (
            {},
            {"hidden_dim": 24},
            {"feed_forward": "average"},
            r"block_1/feed_forward/wi/kernel \(16, 24\) .*\(is \(16, 32\)",
        ),
        ({}, {"gated": True}, {}, "Missing: .*feed_forward/wi_gate/kernel"),
        ({}, {"exit_classifier": True}, {}, "Missing: .*exit_classifier/"),
        ({}, {"dtype": "bfloat16"}, {}, "bfloat16 .*float32. which `cast=True"),
        ({}, {"num_decoder_layers": 3}, {}, "2 decoder layers of the te.*3 of"),
        ({}, {"num_heads": 4}, {}, "num_heads=2 of the teacher, 4 of the"),
        ({}, {"activation": "gelu"}, {}, "activation='relu' of the teacher"),
        ({}, {}, {"layers": [1, 2]}, r"must be a dictionary.*\[1, 2\]"),
        ({}, {}, {"layers": {"decoder": 2}}, "must be a dictionary"),
        ({}, {}, {"layers": {"decoder": [1.5, 2]}}, "must be a dictionary"),
        ({}, {}, {"layers": {"decoder": [1]}}, r"2 decoder.*Received: \[1\]"),
        ({}, {}, {"layers": {"encoder": [0, 1]}}, r"Received: \[0, 1\]"),
        ({}, {}, {"layers": {"encoder": [1, 3]}}, r"Received: \[1, 3\]"),
        ({}, {}, {"layers": {"stack": [1]}}, r"`layers` must.*\['stack'\]"),
    ],
)
def test_a_refused_student_is_as_it_was(teacher, student, options, message):
    teacher = transformer(**teacher)
    student = transformer(**{"num_experts": 0, **student})
    before = by_path(student)
    with pytest.raises(ValueError, match=message):
        initialize_dense_student(teacher, student, **options)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


def test_layers_that_the_teacher_lacks():
    teacher, student = functional("sparse"), functional("dense", "other")
    before = by_path(student)
    with pytest.raises(ValueError, match="Missing: other/wi/kernel, other"):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


def counted(*kinds):
    """A stack of networks whose names are left to Keras."""
    x = inputs = keras.Input((None, DIM))
    for kind in kinds:
        if kind == "sparse":
            x = layers.SparseMoE(EXPERTS, HIDDEN, name="sparse_moe")(x)
        else:
            x = layers.FeedForward(HIDDEN)(x)
    return keras.Model(inputs, x)


def test_layers_that_keras_names_are_paired_by_order():
    counted("dense")  # so that numbers differ
    teacher, student = counted("dense", "dense"), counted("dense", "dense")
    report = initialize_dense_student(teacher, student)
    assert len(report.copied) == 4
    for old, new in zip(teacher.weights, student.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("kinds", "number"),
    [(("dense", "dense", "dense"), 3), (("sparse", "dense"), 1)],
)
def test_order_is_no_guess(kinds, number):
    teacher, student = counted(*kinds), counted("dense", "dense")
    before = by_path(student)
    message = f"{number} layers 'feed_forward' of the teacher, 2 of the student"
    with pytest.raises(ValueError, match=message):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])


def test_floats_of_another_kind_when_asked():
    teacher, student = transformer(), dense(dtype="bfloat16")
    report = initialize_dense_student(teacher, student, "average", cast=True)
    assert len(report.merged) == 4
    given = by_path(teacher)
    for path, value in by_path(student).items():
        assert value.dtype == "bfloat16"
        if path in given:
            np.testing.assert_array_equal(value, given[path].astype("bfloat16"))


def test_blocks_are_for_models_that_have_them():
    with pytest.raises(ValueError, match=r"`layers` must be of \[\]"):
        initialize_dense_student(
            functional("sparse"), functional("dense"), layers={"decoder": [1]}
        )


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_quantised_models_are_refused():
    teacher, student = functional("sparse"), functional("dense")
    before = by_path(student)
    with pytest.raises(ValueError, match="`teacher` must not be quant.*int8"):
        initialize_dense_student(quantized(teacher), student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])
    with pytest.raises(ValueError, match="`student` must not be quant.*int8"):
        initialize_dense_student(functional("sparse"), quantized(student))


def test_models_must_be_built():
    for pair, role in (
        ((unbuilt(), functional("dense")), "teacher"),
        ((functional("sparse"), unbuilt()), "student"),
    ):
        with pytest.raises(ValueError, match=f"`{role}` must be built"):
            initialize_dense_student(*pair)


def test_lora_of_the_teacher_is_merged():
    teacher, student = transformer(), dense()
    query = teacher.encoder.blocks[0].attention.query
    kernel = np.array(query.kernel)
    query.enable_lora(2)
    a, b = np.random.normal(size=(16, 2)), np.random.normal(size=(2, 16))
    query.lora_kernel_a.assign(a)
    query.lora_kernel_b.assign(b)
    initialize_dense_student(teacher, student)
    np.testing.assert_allclose(
        student.encoder.blocks[0].attention.query.kernel,
        kernel + query.lora_alpha / query.lora_rank * a @ b,
        rtol=1e-4,
        atol=1e-5,
    )


def test_lora_of_the_student_comes_later():
    teacher, student = transformer(), dense()
    student.encoder.blocks[0].attention.query.enable_lora(2)
    with pytest.raises(ValueError, match="must have no LoRA weights yet"):
        initialize_dense_student(teacher, student)


def test_weights_that_are_no_numbers_are_not_copied():
    teacher, student = transformer(), dense()
    before = by_path(student)
    kernel = teacher.decoder.blocks[1].cross_attention.key.kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match="block_1/cross_attention/key/kernel"):
        initialize_dense_student(teacher, student)
    for path, value in by_path(student).items():
        np.testing.assert_array_equal(value, before[path])
