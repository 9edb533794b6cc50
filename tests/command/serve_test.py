import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from keras_moe import serving
from keras_moe.models import SwitchTransformer
from tests.command.command_line import facts
from tests.command.command_line import run


def test_flags_are_those_of_the_server():
    said = run("serve", "--help").stdout
    assert said.startswith("usage: keras-moe serve")
    assert "--enable_batching" in said
    said = run("serve", "--port=0", code=2).stderr
    assert "one of DIR and --model_base_path must be given" in said


def test_what_the_server_refuses(tmp_path):
    run("serve", tmp_path, "--burst=3", code=1)


def test_a_missing_extra_is_named(monkeypatch):
    def missing(name):
        raise ImportError("Install it with `pip install keras-moe[serving]`.")

    monkeypatch.delitem(vars(serving), "Server", raising=False)
    monkeypatch.setattr(serving, "__getattr__", missing)
    said = run("serve", "x", code=1).stderr
    assert "keras-moe[serving]" in said


@pytest.mark.large
def test_from_a_model_to_an_answer(tmp_path):
    """Calibrated, exported and served, each by its subcommand."""
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    ids = np.random.default_rng(0).integers(2, 32, (150, 5))
    model({"encoder_token_ids": ids[:1], "decoder_token_ids": ids[:1]})
    model.save(tmp_path / "m.keras")
    lines = ["source", *(" ".join(map(str, row)) for row in ids)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    paths = tmp_path / "m.keras", tmp_path / "data.csv", tmp_path / "c.json"
    calibrated = facts(
        *("calibrate", *paths, "--tolerance", 0.1, "--max_length", 6),
        *("--thresholds", "1.1,1.05"),
    )
    assert calibrated["risks"] == [0.0, 0.0]
    exported = facts(
        *("export", tmp_path / "m.keras", tmp_path / "mine"),
        *("--certificate", tmp_path / "c.json"),
        *("--batch_sizes", "1,2", "--lengths", "8"),
    )
    assert exported["certificate"]["threshold"] == 1.05
    assert exported["certificate"]["is_bound"]
    assert exported["warm_up_shapes"] == {
        "compiled_ids(token_ids)": ["[1, 8]", "[2, 8]"]
    }
    answers = served(tmp_path / "mine", [lines[1], lines[2]])
    wanted = model.generate(ids[:2], 6)["token_ids"].numpy()
    assert [each["token_ids"] for each in answers] == wanted.tolist()
    found = [[int(n) for n in each["outputs"].split()] for each in answers]
    assert found == [[n for n in row if n] for row in wanted.tolist()]


def served(base: pathlib.Path, texts: list[str]) -> list[dict]:
    """Returns what a server of this folder answers."""
    code = "from keras_moe.command import main; main()"
    arguments = ["serve", base, "--port=0", "--rest_api_port=free"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--end_with_stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as server:
        port = json.loads(server.stdout.readline())["rest_port"]
        url = f"http://127.0.0.1:{port}/v1/models/default:predict"
        body = json.dumps({"instances": texts}).encode()
        found = asked(url, body)["predictions"]
        server.stdin.close()
        assert server.wait(60) == 0
    return found


def asked(url: str, body: bytes) -> dict:
    """Returns the first answer; until the model is loaded there is none."""
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(url, body, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
