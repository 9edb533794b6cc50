import resource

import h5py
import hypothesis
import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest

from keras_moe.atomic_file import atomic_file
from keras_moe.training.checkpoints._array_file import read_arrays
from keras_moe.training.checkpoints._array_file import read_header
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._damaged_file_error import DamagedFileError

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64", "float16", "float32", "float64", "bfloat16", "float8_e4m3fn",
]  # fmt: skip


@st.composite
def bits(draw):
    """An array of any bits: NaNs of all kinds, infinities, zeros."""
    name = draw(st.sampled_from(DTYPES))
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0))
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if name == "bool":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.dictionaries(st.text(max_size=8), bits(), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text()),
)
def test_reads_back_bit_by_bit(tmp_path_factory, arrays, header):
    path = tmp_path_factory.mktemp("arrays") / "file.h5"
    write_arrays(path, arrays, header)
    read, read_head = read_arrays(path)
    assert read_head == header == read_header(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_types_scalar_empty_and_strided(tmp_path, dtype):
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    arrays = {
        "scalar": np.ones([], dtype),
        "empty": np.ones([0, 3], dtype),
        "strided": np.arange(12).reshape(3, 4).astype(dtype).T[::2],
    }
    write_arrays(tmp_path / "file.h5", arrays)
    read, _ = read_arrays(tmp_path / "file.h5")
    for name, array in arrays.items():
        assert read[name].dtype == dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_names_may_begin_one_another(tmp_path):
    arrays = {
        "a": np.zeros(1),
        "a/b": np.ones(2),
        ".": np.ones(3),
        "": np.ones(4),
    }
    write_arrays(tmp_path / "file.h5", arrays)
    read, _ = read_arrays(tmp_path / "file.h5")
    assert [(name, len(array)) for name, array in read.items()] == [
        (name, len(array)) for name, array in arrays.items()
    ]


def test_values_of_the_other_byte_order_are_kept(tmp_path):
    write_arrays(tmp_path / "file.h5", {"a": np.array([1, 2], ">i4")})
    (array,) = read_arrays(tmp_path / "file.h5")[0].values()
    assert array.tolist() == [1, 2] and array.dtype == np.int32


def test_other_tools_can_read_it(tmp_path):
    write_arrays(tmp_path / "file.h5", {"a": np.arange(3)})
    with h5py.File(tmp_path / "file.h5") as file:
        assert file["arrays/0"][()].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.ones(1, "M8[s]")]
)
def test_refuses_what_is_not_numbers(tmp_path, array):
    with pytest.raises(ValueError, match="must hold numbers or booleans"):
        write_arrays(tmp_path / "file.h5", {"a": array})
    assert not (tmp_path / "file.h5").exists()


def test_any_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "file.h5"
    write_arrays(path, {"a": np.arange(64.0)}, {"step": 1})
    content = path.read_bytes()
    random = np.random.default_rng(0)
    places = random.integers(len(content), size=150).tolist()
    for place in [*range(40), 200, 511, 512, *places]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match="file.h5"):
            read_arrays(path)


def test_any_other_length_is_noticed(tmp_path):
    path = tmp_path / "file.h5"
    write_arrays(path, {"a": np.arange(64.0)}, {"step": 1})
    content = path.read_bytes()
    for length in [0, 1, 300, 512, 513, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        for read in (read_arrays, read_header):
            with pytest.raises(DamagedFileError, match="file.h5"):
                read(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(DamagedFileError, match="must have"):
        read_arrays(path)


def test_another_kind_of_file_is_noticed(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(100)
    with pytest.raises(DamagedFileError, match="of another kind"):
        read_arrays(path)
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.h5")


def test_a_full_disk_is_an_error_of_pythons(tmp_path):
    # HDF5 would end the process by a segmentation fault.
    small = {"a": np.ones(10)}
    write_arrays(tmp_path / "file.h5", small)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limits[1]))
    try:
        with (
            pytest.raises(OSError, match="too large"),
            atomic_file(tmp_path / "file.h5") as partial,
        ):
            write_arrays(partial, {str(n): np.ones(2**12) for n in range(20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["file.h5"]
    assert read_arrays(tmp_path / "file.h5")[0]["a"].sum() == 10


def test_room_that_was_too_much_is_given_back(tmp_path):
    write_arrays(tmp_path / "file.h5", {"a": np.ones(10)})
    assert (tmp_path / "file.h5").stat().st_size < 2**14
