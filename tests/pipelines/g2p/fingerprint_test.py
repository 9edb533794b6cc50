import pathlib

from pipelines.g2p import fingerprint


def test_an_edit_changes_the_fingerprint(tmp_path):
    files = [tmp_path / name for name in ("a.py", "b.py")]
    for file in files:
        file.write_text("x = 1\n")
    before = fingerprint._fingerprint(files)
    assert fingerprint._fingerprint(files[::-1]) == before
    files[1].write_text("x = 2\n")
    assert fingerprint._fingerprint(files) != before


def test_each_component_looks_at_its_own_code(monkeypatch):
    seen = {}
    monkeypatch.setattr(fingerprint, "_fingerprint", lambda paths: paths)
    for name in ("preprocessing", "trainer", "evaluation", "report"):
        # As it is before it was asked for the first time.
        paths = getattr(fingerprint, f"{name}_fingerprint").__wrapped__()
        seen[name] = {pathlib.Path(p).name for p in paths}
    assert seen["preprocessing"] == {
        "preprocessing.py",
        "text.py",
        "phonemes.py",
    }
    assert {"trainer.py", "training.py", "_sparse_moe.py"} <= seen["trainer"]
    # How a model is exported is a part of it; how it is served is not.
    assert {"_saved_model.py", "student.py", "exits.py"} <= seen["trainer"]
    assert "_server.py" not in seen["trainer"]
    assert {"routing.py", "_plot_expert_load.py"} <= seen["report"]
    assert "_sequence_error_rate.py" not in seen["trainer"]
    evaluation = {"_sequence_error_rate.py", "_edit_distance.py"}
    assert evaluation <= seen["evaluation"]
