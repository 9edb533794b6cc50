"""Files with a right checksum that a stranger made."""

import json

import h5py
import keras
import numpy as np
import pytest

from keras_moe.training import Checkpoints
from keras_moe.training import DamagedFileError
from keras_moe.training.checkpoints import _array_file
from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._array_file import read_header
from keras_moe.training.checkpoints._array_file import write_arrays

SECRET = b"root:x:0:0:secret".ljust(64, b"!")


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["values"] = np.frombuffer(SECRET, np.uint8)
        file["group/0"] = np.frombuffer(SECRET, np.uint8)
    return tmp_path / "secret"


def craft(path, change, names=(("w", "uint8"),), header=None):
    """Writes a file with "arrays/0" as `change` makes it, and its checksum."""
    with h5py.File(path, "w", userblock_size=512, locking=False) as file:
        file["names"] = _array_file._to_bytes(names)
        file["header"] = _array_file._to_bytes(header or {})
        change(file)
    with open(path, "r+b") as raw:
        digest = _array_file._digest(raw)
        raw.write(_array_file._block(path.stat().st_size, digest))
    return path


def create(file, shape, **settings):
    """Makes "arrays/0" of a shape, without a value."""
    file.create_dataset("arrays/0", shape, "u1", **settings)


def virtual(secret):
    layout = h5py.VirtualLayout((64,), "u1")
    layout[:] = h5py.VirtualSource(f"{secret}.h5", "values", (64,))
    return lambda file: file.create_virtual_dataset("arrays/0", layout)


def compact(file):
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.COMPACT)
    dataset = h5py.h5d.create(
        file.create_group("arrays").id,
        b"0",
        h5py.h5t.NATIVE_UINT8,
        h5py.h5s.create_simple((4,)),
        settings,
    )
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(4, "u1"))


def link(name, to):
    def change(file):
        file["elsewhere"] = np.zeros(4, "u1")
        file[name] = to

    return change


def test_what_the_crafting_writes_can_be_read(tmp_path):
    path = craft(tmp_path / "c.h5", link("arrays/0", np.arange(4, dtype="u1")))
    assert read_arrays(path)[0]["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind", ["storage", "virtual", "link", "group link", "soft link"]
)
def test_no_value_comes_from_elsewhere(tmp_path, secret, kind):
    outside = [(str(secret), 0, 64)]
    change = {
        "storage": lambda file: create(file, 64, external=outside),
        "virtual": virtual(secret),
        "link": link("arrays/0", h5py.ExternalLink(f"{secret}.h5", "values")),
        "group link": link(
            "arrays", h5py.ExternalLink(f"{secret}.h5", "group")
        ),
        "soft link": link("arrays/0", h5py.SoftLink("/elsewhere")),
    }[kind]
    path = craft(tmp_path / "c.h5", change)
    with pytest.raises(DamagedFileError, match="'arrays/0' must "):
        read_arrays(path)


def test_a_header_comes_from_no_other_file(tmp_path, secret):
    secret.write_text(json.dumps({"secret": 1}).ljust(64))

    def change(file):
        del file["header"]
        outside = [(str(secret), 0, 64)]
        file.create_dataset("header", 64, "u1", external=outside)

    path = craft(tmp_path / "checkpoint-00000001.h5", change)
    for read in (read_arrays, read_header):
        with pytest.raises(DamagedFileError, match="'header' must lie"):
            read(path)
    # Where the best is looked for, such a file has no metrics.
    assert Checkpoints(tmp_path, monitor="secret").best is None


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": 2**42},
        {"shape": 2**42, "chunks": (2**20,), "compression": "gzip"},
        {"shape": (2**21, 2**21), "chunks": (1024, 1024)},
        {"shape": 100, "chunks": (50,)},
    ],
    ids=str,
)
def test_a_shape_without_values_is_refused(tmp_path, settings):
    path = craft(tmp_path / "c.h5", lambda file: create(file, **settings))
    with pytest.raises(DamagedFileError, match="one piece within the file"):
        read_arrays(path)


def test_one_dataset_under_many_names_is_refused(tmp_path):
    def change(file):
        file["arrays/0"] = np.zeros(10**5, "u1")
        for number in range(1, 100):
            file[f"arrays/{number}"] = file["arrays/0"]

    names = [[f"w{number}", "uint8"] for number in range(100)]
    path = craft(tmp_path / "c.h5", change, names)
    with pytest.raises(DamagedFileError, match="must not be larger"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones(2), "object"),
        (np.ones(2, "u8"), "O"),
        (np.ones(2, "u8"), "M8[s]"),
        (np.ones(2, "u8"), "finfo"),
        (np.ones(2, "u8"), "float64"),
        (np.full(2, 7, "u1"), "bool"),
        (np.array([b"text"]), "uint8"),
        (np.zeros(2, [("a", "u1")]), "uint8"),
        (np.array(["a"], h5py.string_dtype()), "uint8"),
    ],
    ids=str,
)
def test_other_types_are_refused(tmp_path, array, dtype):
    path = craft(tmp_path / "c.h5", link("arrays/0", array), [["w", dtype]])
    with pytest.raises(DamagedFileError, match="damaged"):
        read_arrays(path)


def test_other_layouts_and_missing_arrays_are_refused(tmp_path):
    for change in (compact, link("arrays/1", np.ones(2)), lambda file: None):
        path = craft(tmp_path / "c.h5", change)
        with pytest.raises(DamagedFileError, match="arrays/0"):
            read_arrays(path)


@pytest.mark.parametrize(
    "names",
    [{}, [1], [["w"]], [["w", 1]], [[["w"], "uint8"]], [["w", "uint8"]] * 2],
    ids=str,
)
def test_other_names_are_refused(tmp_path, names):
    def change(file):
        file["arrays/0"] = file["arrays/1"] = np.ones(2, "u1")

    path = craft(tmp_path / "c.h5", change, names)
    with pytest.raises(DamagedFileError, match="damaged"):
        read_arrays(path)


@pytest.mark.parametrize("header", [[1], {"metrics": [1]}, {"metrics": None}])
def test_a_header_of_another_kind_has_no_metrics(tmp_path, header):
    path = tmp_path / "checkpoint-00000001.h5"
    craft(path, lambda file: None, header=header)
    assert Checkpoints(tmp_path, monitor="loss").best is None


def test_of_an_empty_array_nothing_is_stored(tmp_path):
    write_arrays(tmp_path / "c.h5", {"empty": np.ones([0, 3], "f4")})
    assert read_arrays(tmp_path / "c.h5")[0]["empty"].shape == (0, 3)


def test_keras_takes_no_value_from_elsewhere_either(tmp_path, secret):
    # Presets, teachers and artifacts are read by Keras.
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(4)])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        (name,) = file["layers"]
        group = file[f"layers/{name}/vars"]
        del group["0"]
        group.create_dataset("0", (4, 4), "f4", external=[(str(secret), 0, 64)])
    with pytest.raises(ValueError, match="external"):
        model.load_weights(path)
