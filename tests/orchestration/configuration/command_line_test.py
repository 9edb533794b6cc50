"""Flags over files over defaults; what is wrong is said in one sentence."""

import pydantic
import pytest

from keras_moe.orchestration import load_config
from tests.orchestration.toys import COMMAND_LINE
from tests.orchestration.toys import ToyConfig

pytestmark = pytest.mark.tfx


def parse(*flags):
    return COMMAND_LINE.parse(COMMAND_LINE.parser("toys"), flags)[1]


def test_flags_count_more_than_the_file(tmp_path):
    path = tmp_path / "toys.yaml"
    path.write_text("making: {colour: blue, how: slowly}\nliked: false\n")
    config = parse("--config", str(path), "--colour", "green")
    assert (config.making.colour, config.making.how) == ("green", "slowly")
    assert not config.liked
    config = parse("--set", "making.how=fast", "--set", "liked=true")
    assert (config.making.colour, config.making.how) == ("red", "fast")
    assert config.liked and config.enable_cache
    assert not parse("--no-cache").enable_cache


def test_paths_are_absolute_and_follow_the_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse("--output", "here")
    assert config.output == tmp_path / "here"
    for path in (config.data_dir, config.metadata_path, config.pipeline_root):
        assert path.parent == config.output


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--set", "liked"], "must be FIELD=VALUE. Received: --set liked"),
        (["--set", "liked=[1"], "must give a value in YAML"),
        (["--set", "liked=perhaps"], "the command line: `liked`:"),
        (["--set", "making=3"], "the command line: `making`"),
        (["--set", "making.form=round"], "`making.form`: Extra inputs"),
        (["--output", "gs://b/x"], "`output`: must be a path of this machine"),
        (["--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["--disliked"], "`disliked`: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_flag_ends_in_one_sentence(capsys, flags, rule):
    with pytest.raises(SystemExit) as raised:
        parse(*flags)
    assert raised.value.code == 2
    assert rule in capsys.readouterr().err


def test_help_tells_defaults(capsys):
    with pytest.raises(SystemExit) as raised:
        parse("--help")
    assert raised.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: build/pipeline)" in text
    assert "--colour COLOUR of the toy" in text


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- 1\n", "must hold names and values. Received: list"),
        ("a: [1\n", "is not YAML"),
        ("making: 3\n", "`making`"),
        ("1: 2\n", "`1"),
        ("liked: true\nliked: false\n", "`liked` is given twice"),
        ("making: {how: a, how: b}\n", "`how` is given twice"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, rule):
    path = tmp_path / "toys.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rule) as raised:
        load_config(ToyConfig, path)
    assert str(path) in str(raised.value)


def test_what_is_wrong_is_blamed_on_where_it_stands(tmp_path):
    path = tmp_path / "toys.yaml"
    path.write_text("liked: perhaps\n")
    with pytest.raises(ValueError) as raised:
        load_config(ToyConfig, path, {"making.form": "round"})
    told = str(raised.value)
    assert f"{path}: `liked`:" in told
    assert "the command line: `making.form`:" in told


def test_a_merge_is_no_name_given_twice(tmp_path):
    path = tmp_path / "toys.yaml"
    path.write_text("making: {<<: {how: well, colour: red}, colour: blue}\n")
    assert load_config(ToyConfig, path).making.colour == "blue"


MERGES = "a0: &a0 {x0: 1, y0: 1, z0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n"
    for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (MERGES, "too many names are merged"),
        ("a: " + "[" * 5000, "is not YAML: it nests too deeply"),
    ],
    ids=["merges", "brackets"],
)
def test_a_few_lines_do_not_become_many(tmp_path, text, rule):
    path = tmp_path / "toys.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rule):
        load_config(ToyConfig, path)


def test_flags_are_read_as_files_are(capsys):
    with pytest.raises(SystemExit):
        parse("--set", "making={how: a, how: b}")
    assert "must give a value in YAML" in capsys.readouterr().err


def test_a_flag_is_not_blamed_for_its_neighbours(tmp_path):
    path = tmp_path / "toys.yaml"
    path.write_text("making: {colour: [1]}\n")
    flags = {"making.how": "fast"}
    with pytest.raises(ValueError, match=r"toys\.yaml: `making\.colour`"):
        load_config(ToyConfig, path, flags)
    path.write_text("making: 3\n")
    with pytest.raises(ValueError, match=r"toys\.yaml: `making`: "):
        load_config(ToyConfig, path, flags)


def test_a_flag_is_blamed_for_what_is_right_without_it(tmp_path):
    class Pair(ToyConfig):
        low: int = 1
        high: int = 2

        @pydantic.model_validator(mode="after")
        def _ordered(self):
            if self.low > self.high:
                raise ValueError("`low` must not be above `high`")
            return self

    path = tmp_path / "toys.yaml"
    path.write_text("high: 5\n")
    with pytest.raises(ValueError, match="the command line: `all of it`"):
        load_config(Pair, path, {"low": 6})
    path.write_text("low: 6\nhigh: 5\n")
    with pytest.raises(ValueError, match=r"toys\.yaml: `all of it`"):
        load_config(Pair, path, {"liked": True})
