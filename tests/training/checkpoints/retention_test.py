import os

import numpy as np
import pytest

from keras_moe.training.checkpoints import _retention as retention_module
from keras_moe.training.checkpoints._array_file import write_arrays
from keras_moe.training.checkpoints._retention import Retention


@pytest.fixture
def files(tmp_path):
    def write(*values):
        paths = []
        for number, value in enumerate(values):
            path = tmp_path / f"{number}.h5"
            metrics = {} if value is None else {"m": value}
            write_arrays(path, {}, {"metrics": metrics})
            paths.append(path)
        return paths

    return write


def test_the_last_are_kept(files):
    paths = files(1.0, 2.0, 3.0, 4.0)
    for keep in (1, 2, 3):
        assert Retention(keep).superfluous(paths) == paths[:-keep]
    assert Retention(4).superfluous(paths) == []
    assert Retention(9).superfluous(paths) == []
    assert Retention().superfluous([]) == []


@pytest.mark.parametrize("mode, best", [("min", 1), ("max", 2)])
def test_the_best_is_kept_besides(files, mode, best):
    paths = files(2.0, 1.0, 3.0, 2.0, 2.0)
    retention = Retention(1, monitor="m", mode=mode)
    assert retention.ranked(paths)[0] == paths[best]
    kept = {paths[best], paths[-1]}
    assert retention.superfluous(paths) == [p for p in paths if p not in kept]


def test_the_first_of_equals_is_the_best(files):
    paths = files(2.0, 1.0, 1.0, -0.0, 0.0)
    assert Retention(1, "m").ranked(paths) == [
        paths[i] for i in (3, 4, 1, 2, 0)
    ]


def test_values_that_cannot_be_ranked_are_left_out(files):
    paths = files(None, np.nan, np.inf, 1.0)
    damaged = paths[0].with_name("damaged.h5")
    damaged.write_text("no arrays")
    missing = paths[0].with_name("missing.h5")
    ranked = Retention(1, "m").ranked([*paths, damaged, missing])
    assert ranked == [paths[3], paths[2]]
    assert Retention(1, "other").ranked(paths) == []
    assert Retention(1).ranked(paths) == []


def test_a_header_is_read_once(files, monkeypatch):
    paths = files(2.0, 1.0)
    read = []

    def read_header(path):
        read.append(path)
        return original(path)

    original = retention_module.read_header
    monkeypatch.setattr(retention_module, "read_header", read_header)
    retention = Retention(1, "m")
    for _ in range(2):
        assert retention.ranked(paths) == paths[::-1]
    assert read == paths
    # A new file under the name of an old one is read.
    (new,) = files(0.0)
    os.utime(new, ns=(1, 1))
    assert retention.ranked(paths) == paths
    assert read == [*paths, paths[0]]


def test_refuses_what_keeps_nothing():
    with pytest.raises(ValueError, match="`keep` must be a positive integer"):
        Retention(0)
    with pytest.raises(ValueError, match="`mode` must be"):
        Retention(1, "m", "best")
