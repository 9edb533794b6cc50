"""The SavedModel answers through TensorFlow's C++ loader, without Python."""

import pytest

from keras_moe.serving.protocol._tensor_codec import as_array
from keras_moe.serving.server._servable import Servable
from tests.serving import native_loader


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    return native_loader.build(tmp_path_factory.mktemp("native"))


def test_same_answers_as_the_session(binary, models):
    words = ["ab", "zürich", "", "x" * 10_000]
    servable = Servable(models[2], 1)
    signature = servable.signature()

    expected = servable.run({"word": as_array(words)})

    answers = native_loader.run(
        binary,
        models[2],
        signature.inputs["word"].tensor_name,
        words,
        [spec.tensor_name for spec in signature.outputs.values()],
    )
    assert len(answers) == len(expected)
    for name, answer in zip(signature.outputs, answers, strict=True):
        assert answer == expected[name].tolist()
    servable.close()


def test_errors(binary, models, tmp_path):
    with pytest.raises(RuntimeError, match="Could not find SavedModel"):
        native_loader.run(binary, tmp_path, "x:0", ["a"], ["y:0"])
    with pytest.raises(RuntimeError, match="no tensor nothing:0"):
        native_loader.run(binary, models[1], "nothing:0", ["a"], ["y:0"])


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(RuntimeError, match="needs a C compiler"):
        native_loader.build(tmp_path)
