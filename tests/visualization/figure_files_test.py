import stat
import sys

import pytest

from keras_moe import visualization
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import write_atomically

DRAW = {
    "plot_exit_depth": lambda draw: draw([["a"]], [[1]], 2),
    "plot_expert_load": lambda draw: draw(
        {
            "moe/expert_load": [[1.0]],
            "moe/fraction_tokens_left_behind": [0.0],
        }
    ),
    "plot_risk_versus_speed": lambda draw: draw([0.5], [0.1], [2.0], 0.2),
}


def test_a_file_is_there_as_a_whole_or_as_before(tmp_path):
    path = tmp_path / "file.txt"

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_atomically(path, fail)
    assert not list(tmp_path.iterdir())
    write_atomically(path, lambda file: file.write(b"first"))

    def replace(file):
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"

    write_atomically(str(path), replace)
    assert path.read_bytes() == b"second"
    with pytest.raises(RuntimeError, match="disk"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_targets_that_are_refused(tmp_path):
    check_target(None, ".png")
    check_target(tmp_path / "a.PNG", ".png")
    check_target(tmp_path / "a.anything")
    check_target("a.png", ".png")
    with pytest.raises(
        ValueError, match=r"must end in '.png'. Received: .*pdf"
    ):
        check_target(tmp_path / "a.pdf", ".png")
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        check_target(tmp_path / "none" / "a.png", ".png")


@pytest.mark.parametrize("name", DRAW)
def test_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=rf"{name}` needs.*keras-moe\[viz\]"):
        DRAW[name](getattr(visualization, name))


def test_pages_need_no_matplotlib(monkeypatch):
    for name in [m for m in sys.modules if m.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "<span" in visualization.exit_depth_html([["a"]], [[1]], 2)
