"""The code of guides runs as it stands, in its order."""

import io
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_moe
from tests.conversion.checkpoints import hugging_face_case
from tests.conversion.checkpoints import t5x_case

DOCS = pathlib.Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the blocks of a page that are not left out; returns their names."""
    monkeypatch.chdir(tmp_path)

    def run(page, names=None, without=()):
        names = {} if names is None else names
        blocks = BLOCK.findall((DOCS / page).read_text())
        assert blocks
        for block in blocks:
            if not any(word in block for word in without):
                exec(block, names)
        return names

    return run


@pytest.mark.large
@pytest.mark.filterwarnings("error:.*gets no mask")
def test_mixture_of_experts(run):
    names = run("moe.md")
    assert names["outputs"].shape == (2, 6, 16)
    ids = names["tokens"][:2]
    np.testing.assert_allclose(
        names["loaded"](ids), names["model"](ids), atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:Even though the `tf.config")
def test_routers(run, run_eagerly):
    # A step costs less than its graph, which the large tests make.
    tf.config.run_functions_eagerly(run_eagerly)
    try:
        names = run("routers.md")
    finally:
        tf.config.run_functions_eagerly(False)
    page = (DOCS / "routers.md").read_text()
    for name in names["history"].history:
        assert name == "loss" or f"`{name}`" in page
    assert names["loads"].names == ("moe",)


def test_answers(run):
    names = run("generating.md")
    assert names["drawn"]["token_ids"].shape == (2, 8)
    np.testing.assert_array_equal(
        names["served"]["token_ids"], names["answer"]["token_ids"]
    )


def test_upcycling(run):
    names = run("upcycle.md")
    assert names["difference"] < 1e-5
    kinds = [type(layer) for layer in names["sparse"].layers]
    assert keras_moe.layers.SparseMoE in kinds


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_lora_and_int8(run):
    names = run("lora_int8.md")
    assert names["unchanged"] < 1e-6
    assert 0 < names["error"] < 0.05
    np.testing.assert_allclose(
        names["loaded"](names["x"]), names["model"](names["x"]), atol=1e-5
    )


@pytest.mark.large
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert(run):
    assert run("works_with.md")["error"] < 1e-5


def test_troubleshooting(run, capsys):
    run("troubleshooting.md")
    said = capsys.readouterr().out
    assert said == "the input holds NaN (1 of 8 values: 1 NaN).\n"


def classifier(features, classes, width=8):
    return keras.Sequential(
        [
            keras.Input((features,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


@pytest.mark.large
def test_cascades(run):
    rng = np.random.default_rng(0)
    small, large = classifier(4, 3, 2), classifier(4, 3)
    x, x_held_out = rng.normal(size=(2, 400, 4)).astype("float32")
    labels, truth = (large.predict(each).argmax(1) for each in (x, x_held_out))
    names = run(
        "cascades.md",
        dict(
            small=small,
            large=large,
            x=x,
            labels=labels,
            x_held_out=x_held_out,
            small_errors=small.predict(x_held_out).argmax(1) != truth,
            large_errors=np.zeros(len(truth)),
            train_texts=["a"],
            fit_texts=["b"],
            texts=["c"],
        ),
    )
    assert set(np.asarray(names["answer"]["stage"])) == {0, 1}
    served = tf.saved_model.load("serving/topics/1")
    answer = served.signatures["serving_default"](features=x)
    np.testing.assert_array_equal(answer["stage"], names["answer"]["stage"])


@pytest.mark.large
def test_learning_from_less(run):
    rng = np.random.default_rng(0)
    teacher, student = classifier(4, 3), classifier(4, 3, 2)
    for model in (teacher, student):
        model.compile("adam", "sparse_categorical_crossentropy")
    pool = rng.normal(size=(6000, 4)).astype("float32")
    kind = np.argmax(pool[:, :3], axis=1)
    x, labels = pool[:32], kind[:32]
    batches = tf.data.Dataset.from_tensor_slices(
        (
            {"features": x, "example_weight": np.ones(32, "float32")},
            labels,
        )
    ).batch(8)
    inputs = keras.Input((4,), name="features")
    named = keras.Model({"features": inputs}, teacher(inputs))
    named.compile("adam", "sparse_categorical_crossentropy")
    mix = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    names = run(
        "data.md",
        dict(
            np=np,
            model=teacher,
            pool=pool,
            labels_of=lambda rows: kind[rows],
            make_model=lambda: compiled(classifier(4, 3, 2)),
            batches=batches,
            distiller=named,
            held_out=x,
            x=x,
            labels=labels,
            said=(labels + (np.arange(32) < 3)) % 3,
            accuracy=lambda outputs: np.full(len(outputs), 0.9, "float32"),
            crossentropy=lambda truth, outputs: np.asarray(
                keras.losses.sparse_categorical_crossentropy(truth, outputs)
            ),
            teacher=teacher,
            student=student,
            encoder=mix,
            decoder=mix,
        ),
        # Those of pipelines: tests/components/docstring_test.py has them.
        without=["keras_moe.components"],
    )
    assert len(names["indices"]) == 5000
    assert len(names["chosen"].indices) == 5000
    assert names["weights"].shape == (32,)
    assert np.isfinite(names["of_checkpoint"])


def compiled(model):
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.fixture
def transformer():
    return keras_moe.models.SwitchTransformer.from_preset(
        "switch_tiny", vocabulary_size=512
    )


@pytest.mark.large
def test_checkpoints(run, transformer):
    """The files of another library are made of a model of our own."""
    words = (DOCS / "traps.md").read_text().split()
    pieces = io.BytesIO()
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=pieces,
        vocab_size=500,
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    )
    theirs = pathlib.Path("flan-t5-small")
    keras_moe.conversion.save_hugging_face(transformer, theirs)
    (theirs / "spiece.model").write_bytes(pieces.getvalue())
    _, tensors = t5x_case.tensors_of(hugging_face_case.SWITCH)
    t5x_case.write(pathlib.Path("checkpoint_1000000"), tensors)
    ids = np.array([[5, 6, 7, 1]])
    shifted = keras_moe.ops.shift_right(ids)
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": shifted}
    batches = tf.data.Dataset.from_tensors((inputs, ids))
    names = run("checkpoints.md", {"batches": batches})
    assert pathlib.Path("mine/model.safetensors").is_file()
    served = tf.saved_model.load("models/mine/1")
    answer = served.signatures["serving_default"](
        inputs=tf.constant(["a mask"])
    )
    assert answer["outputs"].dtype == tf.string
    assert names["model"].config.vocabulary_size == 512
    assert names["sparse"].config.encoder_router == "top_k"


def words(ids):
    return [[str(each) for each in row] for row in np.asarray(ids)]


@pytest.fixture
def exercise():
    """Rows of source ids, and what a transformer of 32 ids learns from."""
    ids = np.random.default_rng(0).integers(3, 32, (256, 4))
    shifted = keras_moe.ops.shift_right(ids)
    inputs = {"encoder_token_ids": ids, "decoder_token_ids": shifted}
    return dict(
        keras=keras, keras_moe=keras_moe, inputs=inputs, target=ids, labels=ids
    )


@pytest.mark.large
def test_early_exit(run, exercise):
    model = keras_moe.models.SwitchTransformer.from_preset(
        "switch_tiny", num_encoder_layers=2, num_decoder_layers=3
    )
    ids = exercise["target"]
    sizes = model.config.to_dict()
    sizes.pop("exit_classifier")
    names = run(
        "early_exit.md",
        exercise
        | dict(
            model=model,
            sizes=sizes,
            policy=keras_moe.generation.EarlyExitPolicy("softmax"),
            thresholds=[1.1, 0.9],
            token_ids=ids,
            words=words,
            references=[[word] for word in words(ids)],
            tokenize=lambda texts: {
                "encoder_token_ids": 3
                + tf.strings.to_hash_bucket_fast(texts[:, None], 29)
            },
            detokenize=lambda ids: tf.strings.reduce_join(
                tf.strings.as_string(ids), axis=1, separator=" "
            ),
        ),
    )
    certificate = keras_moe.calibration.Certificate.load("certificate.json")
    assert certificate.threshold == names["certificate"].threshold
    served = tf.saved_model.load("models/g2p/1")
    assert {"serving_default", "with_threshold"} <= set(served.signatures)


@pytest.mark.large
def test_distillation(run, exercise):
    teacher = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    inputs, ids = exercise["inputs"], exercise["labels"]
    names = run(
        "distillation.md",
        exercise
        | dict(
            teacher=teacher,
            batches=tf.data.Dataset.from_tensors((inputs, ids)),
            source=ids[:4],
            held_out=inputs,
            held_out_labels=ids,
        ),
    )
    student = keras.saving.load_model("student.keras")
    assert student.config.num_experts == 0
    assert names["answers"].token_ids.shape == (4, 32)


@pytest.mark.large
@pytest.mark.tfx
def test_a_cluster(run):
    names = run("cluster.md")
    spec = names["job"]["pipelineSpec"]
    assert spec["defaultPipelineRoot"].startswith("gs://my-bucket/toys")
    assert pathlib.Path("toys.json").is_file()
