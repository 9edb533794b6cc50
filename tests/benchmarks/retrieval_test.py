from benchmarks.retrieval.measure import SETTINGS
from benchmarks.retrieval.measure import recall_error
from benchmarks.retrieval.measure import reload_difference


def test_there_are_twenty_settings():
    assert len(set(SETTINGS)) == 20


def test_recall_is_that_of_the_formula():
    smallest = min(SETTINGS, key=lambda setting: setting.columns * setting.k)
    assert recall_error(smallest, seed=0).error <= 0.005


def test_nothing_is_lost_by_saving():
    assert reload_difference("int8", 0.9) == 0.0
