"""A loaded version: what is made of it, once and before it answers."""

import concurrent.futures
import logging
import re
import threading

import numpy as np
import pytest

from keras_moe.serving.server._servable import Servable

WORD = {"word": np.array([b"ab"], object)}


@pytest.fixture
def servable(models):
    servable = Servable(models[2], 1)
    yield servable
    servable.close()


def test_no_request_waits_for_the_graph_to_be_made(servable, monkeypatch):
    def made(*_):
        raise AssertionError("A request had to wait.")

    monkeypatch.setattr(servable, "_make_runner", made)
    for name, signature in servable.signatures.items():
        assert servable.runner(signature), name
    assert servable.run(WORD)["score"].tolist() == [4.0]


def test_made_once_by_many(servable, monkeypatch):
    servable._runners.clear()
    make, made = servable._make_runner, []

    def slowly(signature):
        made.append(signature.name)
        threading.Event().wait(0.05)
        return make(signature)

    monkeypatch.setattr(servable, "_make_runner", slowly)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(servable.run, [WORD] * 8))
    assert made == ["serving_default"]
    assert all(answer["score"].tolist() == [4.0] for answer in answers)


def test_clients_cannot_have_graphs_made(servable):
    """Each choice of outputs would be a graph, and memory."""
    before = dict(servable._runners)
    for outputs in (["score"], ["phonemes", "score"], ["score", "phonemes"]):
        answer = servable.run(WORD, output_filter=outputs)
        assert list(answer) == outputs
    assert servable._runners == before


def test_loading_says_how_long_it_took(models, caplog):
    with caplog.at_level(logging.INFO):
        Servable(models[1], 7).close()
    (said,) = (m for m in caplog.messages if "was loaded" in m)
    assert re.fullmatch(
        r"Version 7 was loaded in \d+\.\d s, with 3 warm-up requests", said
    )
