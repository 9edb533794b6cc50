from keras_moe.command._answers import in_words
from keras_moe.version import __version__
from tests.command.command_line import run


def test_version():
    assert run("--version").stdout == f"{__version__}\n"


def test_help_names_every_subcommand():
    said = run("--help").stdout
    for name in ("convert", "calibrate", "export", "serve", "inspect", "plot"):
        assert f"│ {name} " in said


def test_completion_is_there():
    assert "--install-completion" in run("--help").stdout


def test_no_subcommand_shows_the_help():
    assert "Commands" in run(code=2).output


def test_plain_values_in_words():
    facts = {
        "none": None,
        "yes": True,
        "many": 12345,
        "few": [0.5, 1 / 3],
        "empty": [],
        "deep": {"shape": {"x": "[None]", "y": 1}},
    }
    assert in_words(facts).splitlines() == [
        *("none: none", "yes: yes", "many: 12,345", "few: 0.5, 0.333333"),
        *("empty: none", "deep", "  shape: x [None], y 1"),
    ]


def test_words_of_a_file_do_nothing_to_the_terminal():
    words = in_words({"a\x1b[2J": "b\nc", "d": {"e\x07": {}, "f": "\u202eg"}})
    assert words.splitlines() == [
        *(r"a\x1b[2J: b\nc", "d", r"  e\x07: ", r"  f: \u202eg"),
    ]
