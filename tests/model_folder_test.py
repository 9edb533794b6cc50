from keras_moe import model_folder


def test_names_are_those_of_the_tools_that_read_them():
    assert str(model_folder.WARMUP_REQUESTS) == (
        "assets.extra/tf_serving_warmup_requests"
    )
    assert str(model_folder.VARIABLES_INDEX) == "variables/variables.index"
    assert model_folder.KERAS_MODEL.suffix == ".keras"


def test_is_saved_model(tmp_path):
    assert not model_folder.is_saved_model(tmp_path / "missing")
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        assert not model_folder.is_saved_model(tmp_path)
        (tmp_path / name).mkdir()
        assert not model_folder.is_saved_model(tmp_path)
        (tmp_path / name).rmdir()
        (tmp_path / name).write_bytes(b"")
        assert model_folder.is_saved_model(str(tmp_path))
        (tmp_path / name).unlink()
