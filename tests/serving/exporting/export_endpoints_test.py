"""Signatures of any model, whole or not there."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_moe import serving

FEATURES = tf.TensorSpec([None, 4], tf.float32, name="features")
INPUTS = np.arange(12, dtype="float32").reshape(3, 4)


@pytest.fixture(scope="module")
def tower():
    return keras.Sequential([keras.Input([4]), keras.layers.Dense(2)])


@pytest.fixture
def endpoints(tower):
    def embed(features):
        return {"embedding": tower(features)}

    def rank(features, items):
        return {"scores": tf.matmul(tower(features), items, transpose_b=True)}

    items = tf.TensorSpec([None, 2], tf.float32, name="items")
    return {"embed": (embed, [FEATURES]), "rank": (rank, [FEATURES, items])}


def load(directory):
    return tf.saved_model.load(str(directory)).signatures


def test_signatures_answer_as_the_functions_do(tower, endpoints, tmp_path):
    serving.export_endpoints(tmp_path / "1", endpoints)
    signatures = load(tmp_path / "1")
    # Requests without a signature's name get the first.
    assert set(signatures) == {"embed", "rank", "serving_default"}
    expected = tower(INPUTS).numpy()
    for name in ("embed", "serving_default"):
        answer = signatures[name](features=tf.constant(INPUTS))
        np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-6)
    items = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    answer = signatures["rank"](
        features=tf.constant(INPUTS), items=tf.constant(items)
    )
    np.testing.assert_allclose(answer["scores"], expected @ items.T, rtol=1e-5)


def test_the_embedded_server_serves_it(tower, endpoints, tmp_path):
    serving.export_endpoints(tmp_path / "tower" / "1", endpoints)
    serving.write_warmup_requests(
        tmp_path / "tower" / "1", [("embed", {"features": INPUTS})]
    )
    options = {"rest_port": None, "poll_seconds": 0.05}
    with serving.Server("tower", tmp_path / "tower", **options) as server:
        server.wait_until_available()
        assert server.servable.warmup_requests == 1
        with serving.Client(
            grpc_port=server.grpc_port, model_name="tower"
        ) as client:
            answer = client.predict({"features": INPUTS})["embedding"]
    np.testing.assert_allclose(answer, tower(INPUTS), rtol=1e-6)


def test_what_is_tracked_moves_with_the_model(tmp_path):
    path = tmp_path / "items.txt"
    path.write_text("ant\nbee\n")
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(path),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )
    serving.export_endpoints(
        tmp_path / "1",
        {
            "serving_default": (
                lambda items: {"ids": table.lookup(items)},
                [tf.TensorSpec([None], tf.string, name="items")],
            )
        },
        tracked=[table],
    )
    path.unlink()
    answer = load(tmp_path / "1")["serving_default"](
        items=tf.constant(["bee", "cat", "ant"])
    )
    assert answer["ids"].numpy().tolist() == [1, -1, 0]


def test_assets(tower, endpoints, tmp_path):
    serving.export_endpoints(
        tmp_path / "1",
        endpoints,
        assets={
            "model.keras": tower.save,
            "notes.txt": lambda path: path.write_text("kept"),
        },
    )
    extra = tmp_path / "1" / "assets.extra"
    assert (extra / "notes.txt").read_text() == "kept"
    loaded = keras.saving.load_model(extra / "model.keras")
    np.testing.assert_array_equal(loaded(INPUTS), tower(INPUTS))


def test_an_empty_directory_will_do(endpoints, tmp_path):
    (tmp_path / "1").mkdir()
    serving.export_endpoints(f"{tmp_path}/1/", endpoints)
    assert os.listdir(tmp_path) == ["1"]
    assert (tmp_path / "1" / "saved_model.pb").is_file()


def fail(*_):
    raise OSError("disk full")


def write_half(module, path, **options):
    os.makedirs(f"{path}/variables")
    fail()


@pytest.mark.parametrize("where", ["function", "graph", "asset", "no file"])
def test_a_failure_leaves_nothing(endpoints, tmp_path, monkeypatch, where):
    assets = {"first.txt": lambda path: path.write_text("kept")}
    error = OSError
    if where == "function":
        endpoints["embed"] = (fail, [FEATURES])
    elif where == "graph":
        monkeypatch.setattr(tf.saved_model, "save", write_half)
    elif where == "asset":
        assets["second.txt"] = fail
    else:
        assets["second.txt"] = lambda path: None
        error = ValueError
    with pytest.raises(error):
        serving.export_endpoints(tmp_path / "1", endpoints, assets=assets)
    assert not list(tmp_path.iterdir())


def test_a_clean_up_that_fails_hides_nothing(endpoints, tmp_path, monkeypatch):
    def refuse(path):
        if tf.io.gfile.exists(path):
            raise tf.errors.PermissionDeniedError(None, None, "clean-up")

    monkeypatch.setattr(tf.io.gfile, "rmtree", refuse)
    with pytest.raises(OSError, match="disk full"):
        serving.export_endpoints(
            tmp_path / "1", endpoints, assets={"first.txt": fail}
        )


@pytest.mark.parametrize("call", [tf.py_function, tf.numpy_function])
def test_python_stays_behind(tmp_path, call):
    # In the process that exported it, such a graph answers.
    endpoint = (lambda x: {"y": call(abs, [x], tf.float32)}, [FEATURES])
    with pytest.raises(ValueError, match="must not call Python"):
        serving.export_endpoints(tmp_path / "1", {"a": endpoint})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_replaced(endpoints, tmp_path):
    (tmp_path / "1.partial").mkdir()
    (tmp_path / "1.partial" / "half").write_text("x")
    serving.export_endpoints(tmp_path / "1", endpoints)
    assert os.listdir(tmp_path) == ["1"]
    assert not (tmp_path / "1" / "half").exists()


def test_refuses_a_directory_with_files(endpoints, tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(ValueError, match="`directory`.*holds files"):
        serving.export_endpoints(tmp_path, endpoints)
    assert os.listdir(tmp_path) == ["precious"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoints": {}}, "at least one signature"),
        ({"endpoints": {"x": fail}}, r"`endpoints\['x'\]` must be a pair"),
        ({"endpoints": {"x": (None, [FEATURES])}}, "begin with a function"),
        ({"endpoints": {"x": (fail, FEATURES)}}, "end with a list"),
        ({"endpoints": {"x": (fail, ["features"])}}, "end with a list"),
        (
            {"endpoints": {"x": (fail, [tf.TensorSpec([None])])}},
            r"names that differ. Received: \[None\]",
        ),
        (
            {"endpoints": {"x": (fail, [FEATURES, FEATURES])}},
            "names that differ. Received: .'features', 'features'",
        ),
        ({"assets": {"../x": fail}}, "`assets` must have names of files"),
        ({"assets": {"": fail}}, "`assets` must have names of files"),
        ({"assets": {"x": "text"}}, r"`assets\['x'\]` must be a function"),
        ({"assets": {3: fail}}, "`assets` must have names of files"),
        (
            {"assets": {"tf_serving_warmup_requests": fail}},
            "leave 'tf_serving_warmup_requests' to .*write_warmup_requests",
        ),
        ({"assets": {"pushed_from.json": fail}}, "`assets` must leave"),
        ({"assets": ["x"]}, "`assets` must be a dictionary"),
        ({"endpoints": [("x", fail)]}, "`endpoints` must be a dictionary"),
        ({"endpoints": {"": (fail, [FEATURES])}}, "names of signatures"),
        ({"endpoints": {3: (fail, [FEATURES])}}, "names of signatures"),
        (
            {"endpoints": {"signatures": (fail, [FEATURES])}},
            "names of signatures",
        ),
        ({"tracked": keras.layers.Dense(1)}, "`tracked` must be a list"),
        ({"tracked": 3}, "`tracked` must be a list"),
    ],
)
def test_bad_arguments(endpoints, tmp_path, arguments, message):
    arguments = {"endpoints": endpoints, **arguments}
    with pytest.raises(ValueError, match=message):
        serving.export_endpoints(tmp_path / "1", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["a/b", "1", "", "a b", "x:0", "\u00fc", "_x", "self", "class"]
)
def test_names_of_inputs_that_tensorflow_would_change(tmp_path, name):
    spec = tf.TensorSpec([None], tf.float32, name=name)
    with pytest.raises(ValueError, match=r"endpoints\['x'\].*such as"):
        serving.export_endpoints(
            tmp_path / "1", {"x": (lambda value: {"y": value}, [spec])}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "returned",
    [lambda x: x, lambda x: (x, x), lambda x: {}, lambda x: None],
    ids=["tensor", "tuple", "empty", "nothing"],
)
def test_functions_return_dictionaries(tmp_path, returned):
    with pytest.raises(ValueError, match=r"`endpoints\['x'\]` must return a"):
        serving.export_endpoints(tmp_path / "1", {"x": (returned, [FEATURES])})
    assert not list(tmp_path.iterdir())


def test_inputs_keep_their_order_and_names(tmp_path):
    specs = [tf.TensorSpec([], tf.float32, name=name) for name in ("z", "a")]
    serving.export_endpoints(
        tmp_path / "1",
        {"less": (lambda first, second: {"rest": first - second}, specs)},
    )
    answer = load(tmp_path / "1")["less"](
        z=tf.constant(5.0), a=tf.constant(2.0)
    )
    assert float(answer["rest"]) == 3.0


@pytest.mark.parametrize("directory", ["", "file"])
def test_a_directory_that_cannot_be(
    endpoints, tmp_path, monkeypatch, directory
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="`directory` must name a folder"):
        serving.export_endpoints(directory, endpoints)
    assert os.listdir(tmp_path) == ["file"]
