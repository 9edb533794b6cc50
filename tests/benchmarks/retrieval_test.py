import pathlib
import subprocess

import numpy as np
import pytest

from benchmarks.retrieval.__main__ import add_search_quality
from benchmarks.retrieval.measure import SETTINGS
from benchmarks.retrieval.measure import recall_error
from benchmarks.retrieval.measure import reload_difference
from benchmarks.retrieval.timing import milliseconds_a_query
from benchmarks.retrieval.word_vectors import text_vectors
from benchmarks.shared.report import Report
from keras_moe.layers import Retrieval
from keras_moe.retrieval import BlockIndex


def test_there_are_twenty_settings():
    assert len(set(SETTINGS)) == 20


def test_recall_is_that_of_the_formula():
    smallest = min(SETTINGS, key=lambda setting: setting.columns * setting.k)
    assert recall_error(smallest, seed=0).error <= 0.005


@pytest.mark.parametrize("layer", [Retrieval, BlockIndex])
def test_nothing_is_lost_by_saving(layer):
    def make(rows, names):
        return layer(rows, names, storage="int8")

    assert reload_difference(make) == 0.0


def test_texts_of_the_same_words_are_neighbours():
    random = np.random.default_rng(0)
    documents = [
        " ".join(f"word{topic + i}" for i in random.choice(9, 5))
        for topic in range(0, 90, 9)
        for _ in range(20)
    ]
    rows, queries = text_vectors(documents, ["word3 word5, Word8!"], 10, 2**9)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert (np.argsort(-(rows @ queries[0]))[:15] < 20).all()


def test_times_are_of_one_query():
    times = milliseconds_a_query({"a": lambda: sum(range(10**5))}, 10**6)
    assert 0.0 < times["a"] < 0.01


def test_the_model_is_measured_in_a_process_of_its_own(monkeypatch):
    commands = []

    def measure(command, check):
        commands.append(command)
        found = Report("Search quality")
        found.add_claim("mrr_over_bm25", 1.25, 1.3, ">=")
        found.write(command[command.index("--json") + 1])

    monkeypatch.setattr(subprocess, "run", measure)
    report = Report("Retrieval")
    add_search_quality(report, pathlib.Path("words"))
    assert [claim.holds for claim in report.claims] == [False]
    assert commands[0][2] == "benchmarks.search_quality"
    assert commands[0][-2:] == ["--wordnet", "words"]
