import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe import serving
from keras_moe.models import SwitchTransformer

LETTERS = [*"abcdefgh"]
SOUNDS = ["<pad>", "<end>", *"ABCDEFGHIJ"]
MAX_LENGTH = 5


class Text(tf.Module):
    """In-graph text with a lookup table, as a Transform layer has them."""

    def __init__(self):
        super().__init__()
        self.letters = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                LETTERS, tf.range(2, 2 + len(LETTERS))
            ),
            default_value=0,
        )
        self.names = tf.constant(SOUNDS)

    def tokenize(self, words):
        letters = tf.strings.unicode_split(words, "UTF-8").to_tensor("")
        ids = self.letters.lookup(letters)
        return {
            "encoder_token_ids": ids,
            "status": tf.where(
                tf.reduce_any(ids > 0, axis=1), "ok", "nothing known"
            ),
        }

    def detokenize(self, ids):
        names = tf.where(ids > 1, tf.gather(self.names, ids), "")
        joined = tf.strings.reduce_join(names, axis=1, separator=" ")
        return tf.strings.strip(joined)


class TableFile(Text):
    """The same with a vocabulary file, which must move with the model."""

    def __init__(self, path):
        super().__init__()
        path.write_text("\n".join(["pad", "end", *LETTERS]))
        self.letters = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(path),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=0,
        )


@pytest.fixture(scope="module")
def model():
    model = SwitchTransformer.from_preset(
        "switch_tiny", vocabulary_size=len(SOUNDS), num_encoder_layers=1
    )
    for weight in model.weights:
        if "router" in weight.path and weight.path.endswith("kernel"):
            weight.assign(np.random.normal(size=weight.shape))
    # Whoever exports has generated before, as often as not.
    model.generate([[2, 3, 0]], MAX_LENGTH)
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    text = TableFile(folder / "letters.txt")
    serving.export(
        model,
        str(folder / "written"),
        text.tokenize,
        text.detokenize,
        max_length=MAX_LENGTH,
        tracked=[text],
    )
    # What is served was copied elsewhere, and its makings are gone.
    (folder / "letters.txt").unlink()
    (folder / "written").rename(folder / "moved")
    return folder / "moved"


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(str(exported))


def example(word):
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[word]))
    features = tf.train.Features(feature={"inputs": value})
    return tf.train.Example(features=features).SerializeToString()


def test_signatures_are_as_documented(served):
    assert set(served.signatures) == {"serving_default", "examples"}
    outputs = {
        "outputs": ([None], tf.string),
        "token_ids": ([None, MAX_LENGTH], tf.int32),
        "log_probability": ([None], tf.float32),
        "status": ([None], tf.string),
    }
    for name, argument in (("serving_default", "inputs"), ("examples",) * 2):
        signature = served.signatures[name]
        assert signature.structured_input_signature == (
            (),
            {argument: tf.TensorSpec([None], tf.string, name=argument)},
        )
        assert signature.structured_outputs.keys() == outputs.keys()
        for key, (shape, dtype) in outputs.items():
            spec = signature.structured_outputs[key]
            assert spec.dtype == dtype, key
            assert spec.shape.rank == len(shape), key
            assert spec.shape[0] is None, key


@pytest.mark.parametrize("signature", ["serving_default", "examples"])
@pytest.mark.parametrize(
    "words", [[b"abc"], [b"head", b"", b"gag", b"??", b"a" * 40], []]
)
def test_answers_are_the_models(model, served, signature, words):
    text = Text()
    if signature == "examples":
        received = served.signatures[signature](
            examples=tf.constant([example(w) for w in words], tf.string)
        )
    else:
        received = served.signatures[signature](
            inputs=tf.constant(words, tf.string)
        )
    assert received["token_ids"].shape == (len(words), MAX_LENGTH)
    # One by one: nobody's answer depends on the others.
    for i, word in enumerate(words):
        features = text.tokenize(tf.constant([word]))
        ids = features["encoder_token_ids"]
        assert received["status"][i] == features["status"][0]
        expected = model.generate(ids, MAX_LENGTH)
        np.testing.assert_array_equal(
            received["token_ids"][i], expected["token_ids"][0]
        )
        np.testing.assert_allclose(
            received["log_probability"][i],
            expected["log_probability"][0],
            atol=1e-4,
        )
        answer = text.detokenize(expected["token_ids"])[0]
        assert received["outputs"][i] == answer


def reachable_operations(graph_def, function_name):
    library = {f.signature.name: f for f in graph_def.library.function}
    waiting, seen, found = [function_name], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in library[name].node_def:
            found.add(node.op)
            if node.op in library:
                waiting.append(node.op)
            for value in node.attr.values():
                functions = [value.func, *value.list.func]
                waiting += [f.name for f in functions if f.name in library]
    return found


def test_no_signature_assigns_a_variable(exported):
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString((exported / "saved_model.pb").read_bytes())
    meta_graph = proto.meta_graphs[0]
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    for name in ("serving_default", "examples"):
        signature = meta_graph.signature_def[name]
        output = next(iter(signature.outputs.values())).name.split(":")[0]
        function = nodes[output].attr["f"].func.name
        operations = reachable_operations(meta_graph.graph_def, function)
        # A sparse model was walked, down into the decoding loop.
        assert "While" in operations or "StatelessWhile" in operations
        assert "ArgMax" in operations and operations & {
            "BatchMatMulV2",
            "MatMul",
        }
        impure = {op for op in operations if "Assign" in op or "Random" in op}
        assert not impure


def identity(words):
    return {"encoder_token_ids": tf.fill([tf.size(words), 2], 3)}


def test_refuses_a_directory_with_files(model, tmp_path):
    (tmp_path / "precious").write_text("x")
    text = Text()
    with pytest.raises(ValueError, match="`directory`.*holds files"):
        serving.export(model, str(tmp_path), text.tokenize, text.detokenize)
    assert [f.name for f in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("where", ["tokenize", "detokenize"])
def test_half_a_failure_leaves_nothing(model, tmp_path, where):
    def explode(_):
        raise RuntimeError("no text today")

    functions = {"tokenize": identity, "detokenize": Text().detokenize}
    with pytest.raises(RuntimeError, match="no text today"):
        serving.export(
            model,
            str(tmp_path / "model"),
            **{**functions, where: explode},
        )
    assert not list(tmp_path.iterdir())


def test_a_failure_while_writing_leaves_nothing_under_the_name(tmp_path):
    model = SwitchTransformer.from_preset(
        "switch_tiny",
        vocabulary_size=len(SOUNDS),
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_experts=0,
    )
    text = Text()  # its table is not tracked: writing fails
    with pytest.raises(ValueError, match=r"in `tracked=\[\.\.\.\]`.*HashTable"):
        serving.export(
            model, str(tmp_path / "model"), text.tokenize, text.detokenize
        )
    assert not list(tmp_path.iterdir())
    serving.export(
        model,
        tmp_path / "model",  # a `Path` will do
        text.tokenize,
        text.detokenize,
        tracked=[text],
        input_name="spelling",
        output_name="sounds",
    )
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    served = tf.saved_model.load(str(tmp_path / "model"))
    received = served.signatures["serving_default"](
        spelling=tf.constant(["bad"])
    )
    assert "sounds" in received


def test_a_model_of_another_kind_is_told_where_to_go(tmp_path):
    message = (
        "`model` must decode sequences, such as `SwitchTransformer`. Received: "
        "a Sequential model. Use `keras_moe.serving.export_endpoints` or "
    )
    with pytest.raises(ValueError, match=message):
        serving.export(
            keras.Sequential([keras.layers.Dense(2)]),
            tmp_path / "model",
            identity,
            Text().detokenize,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "`max_length`.*0"),
        (
            {"example_spec": {"x": tf.io.FixedLenFeature([], tf.string)}},
            "`example_spec`.*'inputs'.*'x'",
        ),
        (
            {"example_spec": {"inputs": tf.io.VarLenFeature(tf.string)}},
            r"`example_spec\['inputs'\]` must be .*VarLenFeature",
        ),
        ({"input_name": "a/b"}, "`input_name` must be .*'a/b'"),
        ({"input_name": 3}, "`input_name` must be .*=3"),
        ({"output_name": ""}, "`output_name` must be a name"),
        (
            {"assets": {"certificate.json": print}},
            "`assets` must leave 'certificate.json' to `certificate`",
        ),
        # One output would take the place of another.
        ({"output_name": "token_ids"}, "Received: 'token_ids' twice"),
        ({"output_name": "log_probability"}, "'log_probability' twice"),
    ],
)
def test_errors(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        serving.export(
            model,
            str(tmp_path / "model"),
            identity,
            Text().detokenize,
            **arguments,
        )
