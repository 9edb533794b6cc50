"""A student that starts with what its teacher knows."""

import numpy as np
import pytest

from keras_moe.distillation import initialize_dense_student
from tests.distillation.initialize_dense_student_case import DIM
from tests.distillation.initialize_dense_student_case import EXPERTS
from tests.distillation.initialize_dense_student_case import PARTS
from tests.distillation.initialize_dense_student_case import by_path
from tests.distillation.initialize_dense_student_case import counted
from tests.distillation.initialize_dense_student_case import dense
from tests.distillation.initialize_dense_student_case import functional
from tests.distillation.initialize_dense_student_case import ids
from tests.distillation.initialize_dense_student_case import sparse_sites
from tests.distillation.initialize_dense_student_case import transformer

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


def test_layers_that_keras_names_are_paired_by_order():
    counted("dense")  # so that numbers differ
    teacher, student = counted("dense", "dense"), counted("dense", "dense")
    report = initialize_dense_student(teacher, student)
    assert len(report.copied) == 4
    for old, new in zip(teacher.weights, student.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_floats_of_another_kind_when_asked():
    teacher, student = transformer(), dense(dtype="bfloat16")
    report = initialize_dense_student(teacher, student, "average", cast=True)
    assert len(report.merged) == 4
    given = by_path(teacher)
    for path, value in by_path(student).items():
        assert value.dtype == "bfloat16"
        if path in given:
            np.testing.assert_array_equal(value, given[path].astype("bfloat16"))


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
