import pytest

from pipelines.g2p import demo
from pipelines.g2p.configs import load_config


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("data.fractions", [0.5, 0.5], "must be 4 positive numbers.*Received"),
        ("data.fractions", [0.7, 0.1, 0.1, 0.2], "must be.*sum to 1"),
        ("output", "gs://bucket/x", "must be a path of this machine"),
        ("data.max_words", 0, "greater than or equal to 1.*Received: 0"),
        ("data.schema_file", "nowhere.pbtxt", "must be a file that exists"),
        ("teacher.training", {"stpes": 3}, "[Uu]nexpected"),
        (
            "teacher.training",
            {"steps": 0},
            "`steps` must be a positive.*steps=0",
        ),
        ("teacher.preset", "nope", "must be one of .*Received: 'nope'"),
        ("teacher.strategy", "parameter_server", "should be 'default'"),
        ("student.num_decoder_layers", 2.5, "integer"),
        ("exits.thresholds", [0.5, 0.9], "must strictly decrease"),
        ("exits.thresholds", [1.5, 0.5], "must be between 0 and 1"),
        ("exits.thresholds", float("nan"), "[Ii]nput should be"),
        ("exits.tolerance", 1.0, "less than 1"),
        ("cascade.budget", 1.0, "less than 1"),
        ("cascade", {"tolerance": 0.1}, "must have either `budget` or `toler"),
        ("cascade.shares", [0.0], "greater than 0"),
        ("serving.lengths", [16, 8], "must strictly increase"),
        ("serving.batch_sizes", [0, 8], "greater than or equal to 1"),
        ("serving", {"lengths": []}, "must have both `batch_sizes` and"),
        ("data.dictionary", "nowhere.csv", "must be a file that exists"),
        ("warm_start_share", "~", "should be a valid number"),
        ("evaluation.max_phoneme_error_rate", 0, "greater than 0"),
        ("infra_image_tags", ["latest"], "must be empty, or `serving.batch"),
        ("warm_strat", True, "not permitted"),
        ("cluster", {"output": "here", "image": "i"}, "match pattern"),
        ("cluster", {"output": "gs://b"}, "[Ff]ield required"),
    ],
)
def test_errors_name_file_field_and_rule(tmp_path, field, value, rule):
    path = tmp_path / "line.yaml"
    *sections, name = field.split(".")
    text = f"{'  ' * len(sections)}{name}: {value!r}\n"
    for depth, section in reversed(list(enumerate(sections))):
        text = f"{'  ' * depth}{section}:\n" + text
    path.write_text(text.replace("True", "true"))
    with pytest.raises(ValueError, match=rule) as raised:
        load_config(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: `{field}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- 1\n- 2\n", "must hold names and values. Received: list"),
        ("a: [1\n", "is not YAML"),
        ("data: 3\n", "`data`"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, rule):
    path = tmp_path / "line.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rule):
        load_config(path)


@pytest.mark.parametrize("value", [".nan", ".inf", "[.nan]"])
def test_what_is_no_number_is_refused(tmp_path, value):
    for field in ("tolerance", "thresholds"):
        path = tmp_path / "line.yaml"
        path.write_text(f"exits: {{{field}: {value}}}\n")
        with pytest.raises(ValueError, match=f"`exits.{field}.*number|tuple"):
            load_config(path)


def test_a_few_bytes_of_aliases_make_no_long_message(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 9):
        again = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} [{again}]")
    path = tmp_path / "line.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="And 4 more") as raised:
        load_config(path)
    assert len(str(raised.value)) < 20_000
    assert raised.value.__cause__ is None


def test_home_is_the_users_and_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(overrides={"output": "~/run"})
    assert config.output == tmp_path / "run"


def test_a_file_and_what_counts_more(tmp_path):
    path = tmp_path / "line.yaml"
    path.write_text("output: somewhere\nstudent:\n  training: {steps: 7}\n")
    config = load_config(path, {"student.training.seed": 3})
    assert config.output.is_absolute()
    training = config.student.training
    assert (training.steps, training.seed) == (7, 3)
    # What is not named keeps the default of its stage.
    assert training.label_smoothing == 0.0
    assert load_config().student.training.steps != 7
    # As few steps as were asked for, though the default has a greater floor.
    assert training.min_steps == 7 < load_config().student.training.min_steps
    varied = config.model_copy(update={"warm_start": False})
    assert varied.student == config.student


def test_nothing_changes_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        load_config().warm_start = False


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="line.yaml does not exist"):
        load_config(tmp_path / "line.yaml")


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--steps", "0"], "`steps` must be a positive integer"),
        (["--set", "teacher.preset"], "must be FIELD=VALUE"),
        (["--set", "data.fractions=[1"], "must give a value in YAML"),
        (["--set", "exits.tolerance=2"], "the command line: `exits.tolerance`"),
        (
            ["--output", "gs://b/x"],
            "the command line: `output`: must be a path",
        ),
        (["--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
    ],
)
def test_flags_with_a_bad_value_end_in_one_sentence(capsys, flags, rule):
    with pytest.raises(SystemExit) as raised:
        demo.main(flags)
    assert raised.value.code == 2
    assert rule in capsys.readouterr().err


def test_a_missing_dictionary_ends_in_one_sentence(tmp_path, capsys):
    flags = ["--output", str(tmp_path), "--dictionary", "nowhere.csv"]
    with pytest.raises(SystemExit) as raised:
        demo.main(flags)
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert "the command line: `data.dictionary`: must be a file" in said
